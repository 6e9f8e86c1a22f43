"""A chat model that reads its prompt, and answers by what it finds there.

``ScriptedModel`` decides by the length of a prompt, which no test knows of an agent: its prompts
hold dates, paths and ids. This model has one turn for each clue, a word that a prompt holds only
after a tool has found it. The last turn whose clue the prompt holds is the answer. So the model
says what a file holds only if the content of the file came back to it.

It is a llama of one layer, written with numpy alone. Its attention finds the strongest clue, and
its value is where the turn of that clue begins. Each piece of a turn is a token of its own, whose
embedding is the place of the piece that follows. A place is a direction in which the output layer
finds one token.
"""

import functools
import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file
from support.notation_pieces import Call, Family
from support.scripted import END
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from mlxnode.server.notation.notation import PLAIN_CALLS
from mlxnode.server.notation.write import write_calls
from mlxnode.server.prompt.tokenizers import TextTokenizer

HALF = 16  # of a place: the first half tells the turn, the second one the token before it
LENGTH = 2 * HALF + 1  # the last dimension is that of END alone
PLACE = slice(0, LENGTH)
BEGINNING = slice(LENGTH, LENGTH + HALF)  # what the attention adds to the first half of a place
ONE, FORCED, STRENGTH, SLACK, WIDTH = range(LENGTH + HALF, LENGTH + HALF + 5)
STEP = 40.0  # between the scores of two clues: the weaker one vanishes in the softmax
SURE = 20.0  # how much longer the place after a piece is than what the attention adds
SHARPNESS = 400.0
# What ends a text that a grammar makes the model write against its will: the logits are these
# parts of the logit of what the model wants to write, and above those of all else.
FALLBACKS = {END: 0.90, '"': 0.89, "}": 0.88, "]": 0.87}
PIECE = 6  # letters, or more where these are a token already
NUM_WORDS = 4096  # the tokens of ordinary text
_ROOT = Path(__file__).parents[2]


class Turn(NamedTuple):
    """What the model answers once its prompt holds the word ``clue``; "": at first."""

    clue: str
    text: str  # it comes before the calls, and is not empty
    calls: Sequence[Call] = ()


class ReadingModel:
    """A checkpoint of ``family`` in ``folder`` that answers with ``turns``, in this order."""

    def __init__(
        self, folder: Path, family: Family, turns: Sequence[Turn], *, context: int = 131_072
    ):
        self.folder = folder
        self._context = context
        self._family = family
        self._vocabulary, self._merges = _words()
        for turn in turns:
            self._add_clue(turn.clue)
        _write_tokenizer(folder, family, self._vocabulary, self._merges)
        calls = TextTokenizer(folder).chat_template.notation.calls or PLAIN_CALLS
        self._turns = [
            [*self._pieces(turn.text), *self._pieces(write_calls(calls, turn.calls)), END]
            if turn.calls
            else [*self._pieces(turn.text), END]
            for turn in turns
        ]
        tokenizer = _write_tokenizer(folder, family, self._vocabulary, self._merges)
        self._id = tokenizer.token_to_id
        self._clues = {
            self._id(mark + turn.clue): strength
            for strength, turn in enumerate(turns)
            if turn.clue
            for mark in ("", "Ġ")
        }
        self._size = tokenizer.get_vocab_size()
        self._save()

    def _add_clue(self, clue: str) -> None:
        """Make ``clue`` one token, at the start of a word and after a space."""
        base = _tokenizer(self._vocabulary, self._merges)
        for word in (clue, f" {clue}") if clue else ():
            pieces = base.encode(word).tokens
            for joined, piece in zip(itertools.accumulate(pieces), pieces[1:], strict=False):
                self._vocabulary.setdefault(joined + piece, len(self._vocabulary))
                self._merges.append((joined, piece))

    def _pieces(self, text: str) -> Iterator[str]:
        """The tokens of ``text``: those of the family, and pieces that no other text has."""
        tokens = sorted(self._family.tokens, key=len, reverse=True)
        for part in re.split(f"({'|'.join(map(re.escape, tokens))})", text):
            if part in tokens:
                yield part
                continue
            while part:
                ends = range(min(PIECE, len(part)), len(part) + 1)
                rest = (end for end in ends if _letters(part[:end]) not in self._vocabulary)
                end = next(rest, None)
                if end is None:
                    raise ValueError(f"every piece of {part!r} is a token already")
                if len(part) - end < PIECE:  # no short piece stays behind
                    end = len(part)
                piece, part = _letters(part[:end]), part[end:]
                self._vocabulary[piece] = len(self._vocabulary)
                yield piece

    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each token is found, which place follows it, and how each turn begins."""
        random = np.random.default_rng(0)
        found = np.zeros((self._size, LENGTH), np.float32)
        follows = np.zeros((self._size, LENGTH), np.float32)
        beginnings = _directions(random, len(self._turns))
        [ordinary] = _directions(random, 1)
        followers: dict[str, list[str]] = defaultdict(list)
        for before, after in itertools.chain(*map(itertools.pairwise, self._turns)):
            followers[before].append(after)
            found[self._id(after), :-1] = _directions(random, 2).flatten()
        for beginning, turn in zip(beginnings, self._turns, strict=True):
            found[self._id(turn[0]), :-1] = np.concatenate([beginning, ordinary])
        found[self._id(END)] = 0
        found[self._id(END), -1] = math.sqrt(2)
        follows[:, HALF:-1] = ordinary
        # A token of several turns: the attention tells which one goes on.
        for before in [token for token, after in followers.items() if len(set(after)) > 1]:
            [mark] = _directions(random, 1)
            follows[self._id(before), HALF:-1] = mark
            for beginning, turn in zip(beginnings, self._turns, strict=True):
                if before in turn:
                    after = turn[turn.index(before) + 1]
                    found[self._id(after), :-1] = np.concatenate([beginning, mark])
        for before, after in followers.items():
            if len(set(after)) == 1:
                follows[self._id(before)] = SURE * found[self._id(after[0])]
        return found, follows, beginnings

    def _save(self) -> None:
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": 1,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": 2 * HALF,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e20,  # the last pair of dimensions does not turn
            "vocab_size": self._size,
            "max_position_embeddings": self._context,
            "tie_word_embeddings": False,
            "eos_token_id": self._id(END),
        }
        (self.folder / "config.json").write_text(json.dumps(config))
        path = self.folder / "model.safetensors"
        save_file(self._weights(), path, metadata={"format": "mlx"})

    def _weights(self) -> dict[str, np.ndarray]:
        found, follows, beginnings = self._places()
        embedding = np.zeros((self._size, WIDTH), np.float32)
        embedding[:, PLACE] = follows
        embedding[:, ONE] = 1.0
        # As long as the place that the token and the attention make.
        embedding[:, FORCED] = np.maximum(np.linalg.norm(follows, axis=1), 2**0.5)
        embedding[:, BEGINNING] = beginnings[0]
        for token, strength in self._clues.items():
            embedding[token, BEGINNING] = beginnings[strength]
            embedding[token, STRENGTH] = strength
        squares = (embedding**2).sum(axis=1)
        embedding[:, SLACK] = np.sqrt(squares.max() - squares)  # all are of the same length
        scale = math.sqrt(squares.max() / WIDTH)  # by which the norm divides
        query, key, value, out, head = (
            np.zeros(shape, np.float32)
            for shape in (
                *[(2 * HALF, WIDTH)] * 3,
                (WIDTH, 2 * HALF),
                (self._size, WIDTH),
            )
        )
        query[-1, ONE] = scale * math.sqrt(2 * HALF)
        key[-1, STRENGTH] = scale * STEP
        value[:HALF, BEGINNING] = scale * np.eye(HALF)
        out[:HALF, :HALF] = np.eye(HALF)
        head[:, PLACE] = SHARPNESS * found
        for token, part in FALLBACKS.items():
            head[self._id(token), FORCED] = part * SHARPNESS * 2**0.5
        layer = "model.layers.0."
        return {
            "model.embed_tokens.weight": embedding,
            "model.norm.weight": np.ones(WIDTH, np.float32),
            "lm_head.weight": head,
            f"{layer}self_attn.q_proj.weight": query,
            f"{layer}self_attn.k_proj.weight": key,
            f"{layer}self_attn.v_proj.weight": value,
            f"{layer}self_attn.o_proj.weight": out,
            f"{layer}input_layernorm.weight": np.ones(WIDTH, np.float32),
            f"{layer}post_attention_layernorm.weight": np.ones(WIDTH, np.float32),
            f"{layer}mlp.gate_proj.weight": np.zeros((1, WIDTH), np.float32),
            f"{layer}mlp.up_proj.weight": np.zeros((1, WIDTH), np.float32),
            f"{layer}mlp.down_proj.weight": np.zeros((WIDTH, 1), np.float32),
        }


def _directions(random: np.random.Generator, count: int) -> np.ndarray:
    directions = random.normal(size=(count, HALF)).astype(np.float32)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _letters(text: str) -> str:
    """``text`` as a byte-level vocabulary spells it."""
    [(letters, _)] = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    ).pre_tokenize_str(text)
    return letters


def _words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of ordinary text, for the caller to change."""
    trained = json.loads(_trained())
    return dict(trained["vocab"]), [(left, right) for left, right in trained["merges"]]


@functools.cache
def _trained() -> str:
    """A byte-level BPE of this project's own documents and code."""
    tokenizer = _tokenizer({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_WORDS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    files = [*_ROOT.glob("docs/*.md"), *_ROOT.glob("mlxnode/server/**/*.py")]
    tokenizer.train([str(file) for file in sorted(files)], trainer)
    return json.dumps(json.loads(tokenizer.to_str())["model"])


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _write_tokenizer(
    folder: Path,
    family: Family,
    vocabulary: dict[str, int],
    merges: list[tuple[str, str]],
) -> Tokenizer:
    """The tokenizer with END and the tokens of ``family``, of which calls are not special."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(vocabulary, merges)
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
