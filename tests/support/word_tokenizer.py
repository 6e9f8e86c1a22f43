"""A tokenizer with words of ordinary text, trained on this project's own documents and code."""

import functools
import json
from pathlib import Path

from support.notation_pieces import Family
from support.scripted import END
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

NUM_WORDS = 4096
_ROOT = Path(__file__).parents[2]


def spelled(text: str) -> str:
    """``text`` as a byte-level vocabulary spells it."""
    [(letters, _)] = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    ).pre_tokenize_str(text)
    return letters


def words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of ordinary text, for the caller to change."""
    trained = json.loads(_trained())
    return dict(trained["vocab"]), [(left, right) for left, right in trained["merges"]]


@functools.cache
def _trained() -> str:
    """A byte-level BPE of this project's own documents and code."""
    tokenizer = word_tokenizer({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_WORDS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    files = [*_ROOT.glob("docs/*.md"), *_ROOT.glob("mlxnode/server/**/*.py")]
    tokenizer.train([str(file) for file in sorted(files)], trainer)
    return json.dumps(json.loads(tokenizer.to_str())["model"])


def word_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_word_tokenizer(
    folder: Path,
    family: Family,
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
) -> Tokenizer:
    """The tokenizer with END and the tokens of ``family``, of which calls are not special."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer(vocabulary, merges)
    tokenizer.add_special_tokens([END])
    for token in family.tokens:
        is_special = "tool_call" not in token and "think" not in token
        tokenizer.add_tokens([AddedToken(token, special=is_special, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "bos_token": family.tokens[0],
        "chat_template": family.template,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer
