"""Tokenizers rebuilt from GGUF metadata: the ids of other programs, and damaged metadata."""

import json
import random
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from mlxnode.errors import ModelError
from mlxnode.models.gguf.pre_tokenizers import PRE_TOKENIZERS
from mlxnode.models.gguf.tokenizer import tokenizer_config_of, tokenizer_of
from mlxnode.models.gguf.vocabulary import end_ids
from mlxnode.server.prompt.tokenizers import TextTokenizer

# Cut vocabularies, texts and their ids, by llama.cpp and by tokenizers (make_vocabularies.py).
RECORDED = json.loads(
    (Path(__file__).parent.parent / "fixtures/gguf/vocabularies.json").read_text("utf-8")
)
VOCABULARIES = RECORDED["vocabularies"]

# The smallest vocabularies of the two kinds.
BYTE_LEVEL = {
    "model": "gpt2",
    "tokens": ["<s>", "a", "b", "ab", "<call>", "<end>"],
    "token_type": [3, 1, 1, 1, 4, 3],
    "merges": ["a b"],
    "eos_token_id": 0,
}
PIECES = {
    "model": "llama",
    "tokens": ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "▁a"],
    "token_type": [2, 3, 3, *[6] * 256, 1, 1, 1],
    "scores": [*[0.0] * 259, -2.0, -3.0, -1.0],
}


def metadata_of(vocabulary: dict[str, Any], architecture: str = "llama") -> dict[str, Any]:
    return {
        "general.architecture": architecture,
        f"{architecture}.context_length": 64,
        **{f"tokenizer.ggml.{name}": value for name, value in vocabulary.items()},
    }


def recorded(name: str) -> Tokenizer:
    entry = VOCABULARIES[name]
    return tokenizer_of(metadata_of(entry["vocabulary"], entry["architecture"]))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_gguf_tokenizer_gives_the_recorded_ids(name):
    entry, tokenizer = VOCABULARIES[name], recorded(name)
    texts = RECORDED["texts"][entry["texts"]]
    assert len(texts) == len(entry["ids"]) >= 40
    for text, ids in zip(texts, entry["ids"], strict=True):
        # llama.cpp does not compose characters, as the tokenizer of Qwen does.
        if name == "qwen35" and not unicodedata.is_normalized("NFC", text):
            continue
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, text


def random_text(chance: random.Random) -> str:
    kinds = [
        lambda: chr(chance.randrange(0xD800)),
        lambda: chr(chance.randrange(0xE000, 0x110000)),
        lambda: chr(chance.randrange(0x80)),
        lambda: chance.choice([" ", "  ", "\n", "\t", "1", "<", "e\u0301", "\u4e2d", "\0"]),
    ]
    return "".join(chance.choice(kinds)() for _ in range(chance.randrange(1, 40)))


# The vocabularies with all bytes; Phi-3 strips text, so its does not come back.
@pytest.mark.parametrize("name", ["gemma3", "gemma-4"])
def test_gguf_tokenizer_round_trips_random_texts(name):
    tokenizer, chance = recorded(name), random.Random(5)
    for _ in range(300):
        text = random_text(chance).replace("▁", "")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", [*PRE_TOKENIZERS, None])
def test_gguf_pre_tokenizer_loses_no_text(name):
    vocabulary = BYTE_LEVEL if name is None else BYTE_LEVEL | {"pre": name, "bos_token_id": 0}
    split = tokenizer_of(metadata_of(vocabulary)).pre_tokenizer
    whole = ByteLevel(add_prefix_space=False, use_regex=False)
    for text in [*RECORDED["texts"]["own"], "don't 12345 x\n\n  y"]:
        words = [word for word, _ in split.pre_tokenize_str(text)]
        assert "".join(words) == "".join(word for word, _ in whole.pre_tokenize_str(text))
    assert len(words) >= 6


def test_gguf_pieces_have_a_space_before_each_text_unless_the_file_says_no():
    tokenizer = tokenizer_of(metadata_of(PIECES))
    assert tokenizer.encode("a<s>a").tokens == ["<s>", "▁a", "<s>", "▁a"]
    assert tokenizer.decode([261, 260]) == "aa"
    without = tokenizer_of(metadata_of(PIECES | {"add_space_prefix": False}))
    assert without.encode("a a").tokens == ["<s>", "a", "▁a"]
    assert without.decode([260, 261]) == "a a"


def test_gguf_pieces_merge_by_score():
    tokens = [*PIECES["tokens"], "b", "ab", "bb"]
    types = [*PIECES["token_type"], 1, 1, 1]
    for scores, pieces in (
        ([-9.0, -1.0, -2.0], ["ab", "b"]),
        ([-9.0, -2.0, -1.0], ["a", "bb"]),
    ):
        vocabulary = PIECES | {
            "tokens": tokens,
            "token_type": types,
            "scores": [*PIECES["scores"], *scores],
            "add_space_prefix": False,
        }
        tokenizer = tokenizer_of(metadata_of(vocabulary))
        assert tokenizer.encode("abb", add_special_tokens=False).tokens == pieces


def test_gguf_special_tokens_of_phi3_take_the_spaces_behind_them():
    tokens = [*PIECES["tokens"], "<|user|>"]
    vocabulary = PIECES | {
        "tokens": tokens,
        "token_type": [*PIECES["token_type"], 3],
        "scores": [*PIECES["scores"], 0.0],
    }
    text = "<|user|>\n a<s> a"

    def pieces(architecture: str) -> list[str]:
        tokenizer = tokenizer_of(metadata_of(vocabulary, architecture))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return [tokens[id_] for id_ in ids]

    assert pieces("phi3") == ["<|user|>", "▁a", "<s>", "▁", "▁a"]
    assert pieces("llama") == ["<|user|>", "▁", "<0x0A>", "▁a", "<s>", "▁", "▁a"]


def test_gguf_text_without_types_is_words_only():
    vocabulary = {key: value for key, value in BYTE_LEVEL.items() if key != "token_type"}
    assert tokenizer_of(metadata_of(vocabulary)).encode("ab").ids == [3]


def test_gguf_adds_the_tokens_around_a_text_that_the_file_asks_for():
    def ids(pre: str = "gpt-2", **extra: Any) -> list[int]:
        vocabulary = BYTE_LEVEL | {"pre": pre, "bos_token_id": 5} | extra
        return tokenizer_of(metadata_of(vocabulary)).encode("ab").ids

    assert ids() == [3]
    assert ids(pre="llama-bpe") == ids(pre="tekken") == ids(add_bos_token=True) == [5, 3]
    assert ids(pre="llama-bpe", add_bos_token=False) == [3]
    assert ids(add_bos_token=True, add_eos_token=True) == [5, 3, 0]


def test_gguf_ends_are_found_by_their_texts_too():
    def ends(*tokens: str, **named: int) -> list[str]:
        vocabulary = (
            BYTE_LEVEL | {"tokens": ["a", "<stop>", *tokens], "eos_token_id": 1} | named
        )
        return [vocabulary["tokens"][i] for i in end_ids(metadata_of(vocabulary))]

    assert ends("<end_of_turn>") == ["<stop>", "<end_of_turn>"]
    assert ends("<x>", "<y>", eot_token_id=2, eom_token_id=3) == ["<stop>", "<x>", "<y>"]
    assert ends("<|end|>") == ["<stop>", "<|end|>"]
    # The answer of gpt-oss goes on after the end of a message, whatever the file says.
    harmony = ("<|return|>", "<|call|>", "<|end|>")
    assert (
        ends(*harmony) == ends(*harmony, eot_token_id=4) == ["<stop>", "<|return|>", "<|call|>"]
    )


def test_gguf_end_with_the_type_of_a_word_is_special_all_the_same():
    vocabulary = BYTE_LEVEL | {
        "tokens": ["a", "<|im_end|>"],
        "token_type": [1, 1],
        "merges": [],
    }
    tokenizer = tokenizer_of(metadata_of(vocabulary))
    assert tokenizer.encode("a<|im_end|>").ids == [0, 1]
    assert tokenizer.decode([0, 1]) == "a"


def test_gguf_chat_templates_keep_their_names():
    metadata = metadata_of(BYTE_LEVEL)
    assert "chat_template" not in tokenizer_config_of(metadata)
    metadata["tokenizer.chat_template"] = "one"
    assert tokenizer_config_of(metadata)["chat_template"] == "one"
    metadata["tokenizer.chat_templates"] = ["tool_use"]
    metadata["tokenizer.chat_template.tool_use"] = "two"
    assert tokenizer_config_of(metadata)["chat_template"] == [
        {"name": "default", "template": "one"},
        {"name": "tool_use", "template": "two"},
    ]


@pytest.mark.parametrize("name", ["gemma3", "phi-3", "qwen2"])
async def test_gguf_tokenizer_works_in_a_worker(name, tmp_path):
    entry = VOCABULARIES[name]
    metadata = metadata_of(entry["vocabulary"], entry["architecture"])
    metadata["tokenizer.chat_template"] = "{{ messages[0].content }}"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    config = tokenizer_config_of(metadata)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    reference = tokenizer_of(metadata)
    reference.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer(tmp_path)
    assert tokenizer.has_chat_template
    text = "Hello, world! 3"
    (ids,) = await tokenizer.encode([text])
    assert ids == reference.encode(text).ids
    assert tokenizer.decode(ids) == text


DAMAGED = [
    ({"tokens": []}, "tokens is empty"),
    ({"tokens": "abc"}, "tokens must be a list, got 'abc'"),
    (
        {"tokens": ["<s>", "a", "b", "ab", 7, "<end>"]},
        "tokens has an entry of the wrong type: 7",
    ),
    ({"tokens": ["<s>", "a", "b", "ab", "a", "<end>"]}, "tokens has 'a' twice"),
    ({"token_type": [3, 1]}, "token_type has 2 entries for 6 tokens"),
    ({"token_type": [3, 1, 1, 1, 4, 3, 1]}, "token_type has 7 entries for 6 tokens"),
    ({"token_type": [3, 1, 1, 1, "4", 3]}, "token_type has an entry of the wrong type: '4'"),
    ({"token_type": [3, 1, 1, 1, True, 3]}, "token_type has an entry of the wrong type: True"),
    ({"merges": ["a c"]}, "merges has 'a c'"),
    ({"merges": ["b a"]}, "merges has 'b a'"),
    ({"merges": ["ab"]}, "merges has 'ab'"),
    ({"merges": [" b"]}, "merges has ' b'"),
    ({"merges": ["a b", 3]}, "merges has an entry of the wrong type: 3"),
    ({"merges": 3}, "merges must be a list, got 3"),
    ({"eos_token_id": 6}, "eos_token_id must be from 0 to 5, got 6"),
    ({"eos_token_id": -1}, "eos_token_id must be from 0 to 5, got -1"),
    ({"eot_token_id": 2**32 - 1}, "eot_token_id must be from 0 to 5, got 4294967295"),
    ({"bos_token_id": "<s>"}, "bos_token_id must be from 0 to 5, got '<s>'"),
    ({"padding_token_id": 99}, "padding_token_id must be from 0 to 5, got 99"),
    ({"add_bos_token": 1}, "add_bos_token must be true or false, got 1"),
    ({"scores": [0.0]}, "scores has 1 entries for 6 tokens"),
    ({"scores": [0.0] * 5 + [float("nan")]}, "scores has a score that is no number"),
    ({"pre": "kimi-k2"}, "pre-tokenizer 'kimi-k2' is not supported"),
    ({"pre": ["qwen2"]}, r"pre-tokenizer \['qwen2'\] is not supported"),
    ({"model": "t5"}, "tokenizer 't5' is not supported in GGUF form, only gpt2, llama"),
    ({"model": "bert"}, "tokenizer 'bert' is not supported"),
    ({"model": ["gpt2"]}, r"tokenizer \['gpt2'\] is not supported"),
    ({"model": "llama", "bos_token_id": 1}, "the metadata lacks 'tokenizer.ggml.scores'"),
    (
        {"model": "llama", "tokens": ["a"], "token_type": [1], "merges": [], "scores": [0.0]},
        "bos_token_id must be from 0 to 0, got 1",
    ),
]


@pytest.mark.parametrize(("changes", "message"), DAMAGED, ids=[text for _, text in DAMAGED])
def test_gguf_damaged_vocabulary_is_refused_by_its_key(changes, message):
    metadata = metadata_of(BYTE_LEVEL | changes)
    with pytest.raises(ModelError, match=message):
        read_all(metadata)


def read_all(metadata: dict[str, Any]) -> None:
    tokenizer_of(metadata)
    tokenizer_config_of(metadata)
    end_ids(metadata)


@pytest.mark.parametrize("key", ["model", "tokens", "merges", "eos_token_id"])
def test_gguf_missing_metadata_is_named(key):
    metadata = metadata_of(BYTE_LEVEL)
    del metadata[f"tokenizer.ggml.{key}"]
    with pytest.raises(KeyError, match=f"tokenizer.ggml.{key}"):
        read_all(metadata)


def test_gguf_missing_begin_of_text_is_named():
    with pytest.raises(KeyError, match="bos_token_id"):
        read_all(metadata_of(BYTE_LEVEL | {"add_bos_token": True}))


def test_gguf_pieces_without_bytes_and_unknown_token_are_refused():
    # With such a vocabulary, characters that are no tokens would vanish from the text.
    vocabulary = PIECES | {"model": "gemma4", "merges": ["▁ a"], "bos_token_id": 1}
    text = tokenizer_of(metadata_of(vocabulary)).encode("a aé")
    assert text.tokens == ["a", "▁a", "<0xC3>", "<0xA9>"]
    types = [1 if type_ == 6 else type_ for type_ in PIECES["token_type"]]
    with pytest.raises(ModelError, match="tokens has neither 256 bytes nor an unknown token"):
        tokenizer_of(metadata_of(vocabulary | {"token_type": types}))


def test_gguf_merges_of_pieces_are_those_of_the_scores():
    # Some converters write both lists, and llama.cpp reads the scores.
    tokenizer = tokenizer_of(metadata_of(PIECES | {"merges": []}))
    assert tokenizer.encode("a", add_special_tokens=False).tokens == ["▁a"]


def test_gguf_tokens_of_great_length_are_refused_at_once():
    tokens = [*PIECES["tokens"], "a" * (1 << 20)]
    vocabulary = PIECES | {
        "tokens": tokens,
        "token_type": [*PIECES["token_type"], 1],
        "scores": [*PIECES["scores"], 0.0],
    }
    start = time.process_time()
    with pytest.raises(ModelError, match="tokens has too long tokens"):
        tokenizer_of(metadata_of(vocabulary))
    assert time.process_time() - start < 5


def test_gguf_mutated_metadata_is_read_or_refused():
    chance = random.Random(11)
    values = [
        None,
        True,
        -1,
        2**63,
        1.5,
        float("nan"),
        "",
        "a b",
        "\0",
        [],
        [[]],
        {},
        [None],
        b"x",
    ]
    refused = 0
    for base in (BYTE_LEVEL, PIECES):
        for _ in range(300):
            vocabulary: dict[str, Any] = {
                key: list(value) if isinstance(value, list) else value
                for key, value in base.items()
            }
            key = chance.choice([*vocabulary, "pre", "bos_token_id", "add_space_prefix"])
            if isinstance(vocabulary.get(key), list) and chance.random() < 0.7:
                entries = vocabulary[key]
                entries[chance.randrange(len(entries))] = chance.choice(values)
            else:
                vocabulary[key] = chance.choice(values)
            try:
                read_all(metadata_of(vocabulary))
            except (ModelError, KeyError):
                refused += 1
    assert refused > 300
