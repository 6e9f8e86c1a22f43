"""Markers that are no tokens of their own are found in all surroundings."""

import itertools
import json

import pytest
from support.scripted import write_tokenizer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from mlxnode.server.prompt.spellings import Speller, Spelling

MARKER = "</think>"
BEFORE = ["we go", "So.", 'x = "y"', "`a`", "ok\n", "ok\n\n", "foo()", "!", "好。", "{1}", "a "]
AFTER = ["", "\n\nHi", "Hi", " The", '{"a"', "**x", "#T", "`a`", "=", "好", "<b>", ">"]


@pytest.fixture
def byte_level(tmp_path) -> Tokenizer:
    """Signs join with signs and line breaks, as byte-level BPE learns them."""
    merges = ["t h", "i n", "in k", "th ink", "< /", ". </", '" </', "! </", "` </", ") </"]
    merges += ["Ċ Ċ", "> Ċ", "> ĊĊ", "> {", "> =", "> #", "* *", "> **", "Ċ </", "> <", "> >"]
    write_tokenizer(tmp_path, "", ["<|turn|>"], ["<tool>"])
    file = tmp_path / "tokenizer.json"
    data = json.loads(file.read_text())
    vocabulary = data["model"]["vocab"]
    for merge in merges:
        vocabulary.setdefault(merge.replace(" ", ""), len(vocabulary) + 100)
    data["model"]["merges"] = merges
    file.write_text(json.dumps(data))
    return Tokenizer.from_file(str(file))


@pytest.fixture
def sentence_piece() -> Tokenizer:
    """A space is a letter, at the start of every text too; unknown letters are bytes."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [chr(code) for code in range(33, 127)]
    merges = [("<", "/"), ("t", "h"), ("i", "n"), ("in", "k"), ("th", "ink"), (".", "</")]
    merges += [("▁", "</"), ("k", ">"), ("think", ">"), (">", "{"), (">", "="), (")", "</")]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    model = models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def found_after(ids: list[int], spellings: list[Spelling]) -> int | None:
    """The number of tokens up to the end of the first marker."""
    for end in range(1, len(ids) + 1):
        for spelling in spellings:
            last = ids[max(end - len(spelling), 0) : end]
            if len(last) == len(spelling) and all(map(list.__contains__, spelling, last)):
                return end
    return None


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
def test_spellings_find_a_marker_in_all_surroundings(request, kind):
    tokenizer = request.getfixturevalue(kind)
    spellings = Speller(tokenizer).spellings(MARKER)
    seen = set()
    for before, after in itertools.product(BEFORE, AFTER):
        ids = tokenizer.encode(f"<x> {before}{MARKER}{after}").ids
        end = found_after(ids, spellings)
        assert end is not None, (before, after)
        text = tokenizer.decode(ids[:end])
        assert MARKER in text and MARKER not in tokenizer.decode(ids[: end - 1])
        seen.add(tuple(ids[end - len(spellings[0]) : end]))
    assert len(seen) > 3  # one marker, many spellings


@pytest.mark.parametrize("kind", ["byte_level", "sentence_piece"])
def test_spellings_find_nothing_else(request, kind):
    tokenizer = request.getfixturevalue(kind)
    spellings = Speller(tokenizer).spellings(MARKER)
    for text in ("</thin>", "< /think>", "<think>", "</think", "think>", "</ think>", "a.</b>"):
        assert found_after(tokenizer.encode(text).ids, spellings) is None, text


def test_spellings_of_an_added_token_are_one(byte_level):
    for marker in ("<|turn|>", "<tool>"):
        assert Speller(byte_level).spellings(marker) == [[[byte_level.token_to_id(marker)]]]


def test_spellings_of_text_between_added_tokens(byte_level):
    byte_level.add_tokens([AddedToken("<|in|>", special=True)])
    ids = byte_level.encode("<|in|>think<|turn|>").ids
    assert len(ids) == 3
    assert Speller(byte_level).spellings("<|in|>think<|turn|>") == [[[id] for id in ids]]


def test_spellings_of_a_text_that_the_tokenizer_drops(sentence_piece):
    sentence_piece.normalizer = normalizers.Replace("@", "")
    assert Speller(sentence_piece).spellings("@") == []
