"""A chat model that reads its prompt, and answers by what it finds there.

``ScriptedModel`` decides by the length of a prompt, which no test knows of an agent: its
prompts hold dates, paths and ids. This model has one turn for each clue, a word that a prompt
holds only after a tool has found it. The last turn whose clue the prompt holds is the answer.
So the model says what a file holds only if the content of the file came back to it.

It is a llama of one layer, written with numpy alone. Its attention finds the strongest clue,
and its value is the turn of that clue. Each piece of a turn is a token of its own, whose
embedding tells which piece follows. A grammar spells what it forces with other tokens, and the
model finds its way back: the last of them tells whether an answer or a string begins, and the
mask of the grammar leaves one of the strings of the turn.
"""

import itertools
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from support.notation_pieces import Call, Family
from support.scripted import END
from support.word_tokenizer import spelled, word_tokenizer, words, write_word_tokenizer

from mlxnode.server.notation.notation import PLAIN_CALLS, CallNotation
from mlxnode.server.notation.write import write_calls
from mlxnode.server.prompt.tokenizers import TextTokenizer

HALF = 16
TURN = slice(0, HALF)  # of a place: the turn that it belongs to
BEFORE = slice(HALF, 2 * HALF)  # the kind of token before it
OWN = slice(2 * HALF, 4 * HALF)  # itself
END_ITSELF, ONE, FORCED, STRENGTH, SLACK = range(4 * HALF, 4 * HALF + 5)
VALUE = slice(SLACK + 1, SLACK + 1 + HALF)  # the turn that the attention finds
WIDTH = VALUE.stop
STEP = 40.0  # between the scores of two clues: the weaker one vanishes in the softmax
SURE = 20.0  # how much a piece outweighs the attention
SHARPNESS = 2000.0
# How much the model wants to write each string of a call where any is allowed.
WANTED = {"value": 1.0, "key": 0.98, "name": 0.96}
# What ends a text that a grammar makes the model write against its will: the logits are these
# parts of the logit of what the model wants to write, and above those of all else.
FALLBACKS = {END: 0.90, '"': 0.89, "}": 0.88, "]": 0.87}
PIECE = 6  # letters, or more where these are a token already


class Turn(NamedTuple):
    """What the model answers once its prompt holds the word ``clue``; "": at first."""

    clue: str
    text: str
    calls: Sequence[Call] = ()


class ReadingModel:
    """A checkpoint of ``family`` in ``folder`` that answers with ``turns``, in this order.

    The family writes calls as JSON.
    """

    def __init__(
        self, folder: Path, family: Family, turns: Sequence[Turn], *, context: int = 131_072
    ):
        self.folder = folder
        self._context = context
        self._family = family
        self._vocabulary, self._merges = words()
        for turn in turns:
            self._add_clue(turn.clue)
        write_word_tokenizer(folder, family, self._vocabulary, self._merges)
        calls = TextTokenizer(folder).chat_template.notation.calls or PLAIN_CALLS
        self._wanted: dict[str, float] = {}  # of the first pieces of strings
        self._known: dict[str, list[str]] = {}  # the tokens of each part of a turn
        self._turns = [self._written(turn, calls) for turn in turns]
        tokenizer = write_word_tokenizer(folder, family, self._vocabulary, self._merges)
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
        base = word_tokenizer(self._vocabulary, self._merges)
        for word in (clue, f" {clue}") if clue else ():
            pieces = base.encode(word).tokens
            for joined, piece in zip(itertools.accumulate(pieces), pieces[1:], strict=False):
                self._vocabulary.setdefault(joined + piece, len(self._vocabulary))
                self._merges.append((joined, piece))

    def _written(self, turn: Turn, notation: CallNotation) -> list[str]:
        """The tokens of ``turn``; notes which of them begin a string of a call."""
        tokens = list(self._pieces(turn.text))
        for kind, text in _parts(notation, turn.calls):
            pieces = self._pieces(text)
            if kind:
                self._wanted[pieces[0]] = WANTED[kind]
            tokens += pieces
        return [*tokens, END]

    def _pieces(self, text: str) -> list[str]:
        """The tokens of ``text``: those of the family, and pieces that no other text has."""
        if text not in self._known:
            tokens = sorted(self._family.tokens, key=len, reverse=True)
            parts = re.split(f"({'|'.join(map(re.escape, tokens))})", text)
            of_parts = ([part] if part in tokens else self._new_pieces(part) for part in parts)
            self._known[text] = [*itertools.chain(*of_parts)]
        return self._known[text]

    def _new_pieces(self, text: str) -> Iterator[str]:
        while text:
            piece = self._first_piece(text)
            self._vocabulary[spelled(piece)] = len(self._vocabulary)
            yield spelled(piece)
            text = text[len(piece) :]

    def _first_piece(self, text: str) -> str:
        """The shortest piece that is no token yet and leaves no short rest."""
        for end in range(min(PIECE, len(text)), len(text) + 1):
            is_short = 0 < len(text) - end < PIECE
            if not is_short and spelled(text[:end]) not in self._vocabulary:
                return text[:end]
        raise ValueError(f"every piece of {text!r} is a token already")

    def _save(self) -> None:
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": WIDTH,
            "intermediate_size": 1,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "head_dim": HALF,
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
        random = np.random.default_rng(0)
        turns = _directions(random, len(self._turns))
        embedding = self._embedding(turns)
        head = np.zeros((self._size, WIDTH), np.float32)
        free = self._place(embedding, head, turns, random)
        self._lead(embedding, head, turns, free)
        squares = (embedding**2).sum(axis=1)
        embedding[:, SLACK] = np.sqrt(squares.max() - squares)  # all are of the same length
        scale = math.sqrt(squares.max() / WIDTH)  # by which the norm divides
        query, key, value = np.zeros((3, HALF, WIDTH), np.float32)
        query[-1, ONE] = scale * math.sqrt(HALF)
        key[-1, STRENGTH] = scale * STEP
        value[:, VALUE] = scale * np.eye(HALF)
        out = np.zeros((WIDTH, HALF), np.float32)
        out[TURN] = np.eye(HALF)
        layer = "model.layers.0."
        return {
            "model.embed_tokens.weight": embedding,
            "model.norm.weight": np.ones(WIDTH, np.float32),
            "lm_head.weight": SHARPNESS * head,
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

    def _embedding(self, turns: np.ndarray) -> np.ndarray:
        """What the attention reads of each token."""
        embedding = np.zeros((self._size, WIDTH), np.float32)
        embedding[:, ONE] = 1.0
        embedding[:, VALUE] = turns[0]
        for token, strength in self._clues.items():
            embedding[token, VALUE] = turns[strength]
            embedding[token, STRENGTH] = strength
        return embedding

    def _place(
        self,
        embedding: np.ndarray,
        head: np.ndarray,
        turns: np.ndarray,
        random: np.random.Generator,
    ) -> list[np.ndarray]:
        """Write where each token of a turn is found; returns directions that are free."""
        at_answer, in_string, elsewhere, *free = _directions(random, HALF)
        embedding[:, BEFORE] = elsewhere
        for token, id in self._vocabulary.items():
            if token.endswith(spelled("\n")):
                embedding[id, BEFORE] = at_answer
            elif token.endswith('"'):
                embedding[id, BEFORE] = in_string
        embedding[:, FORCED] = 2.0  # the squares of the turn and of what is before
        head[self._id(END), END_ITSELF] = 1.0
        for turn, tokens in zip(turns, self._turns, strict=True):
            for id, token in ((self._id(token), token) for token in tokens if token != END):
                if not head[id, OWN].any():
                    head[id, OWN] = random.normal(size=2 * HALF)
                    head[id, OWN] /= np.linalg.norm(head[id, OWN])
                if (wanted := self._wanted.get(token)) is not None:
                    head[id, TURN] += wanted * turn  # several turns may have the same key
                    head[id, BEFORE] = wanted * in_string
            first = self._id(tokens[0])
            head[first, TURN] += turn
            head[first, BEFORE] = at_answer
        for token, part in FALLBACKS.items():
            head[self._id(token), FORCED] = part
        return free

    def _lead(
        self,
        embedding: np.ndarray,
        head: np.ndarray,
        turns: np.ndarray,
        free: list[np.ndarray],
    ) -> None:
        """Write which place follows each token of a turn."""
        for before, followers in self._followers().items():
            if len(set(followers.values())) == 1:
                [after] = set(followers.values())
                embedding[before, BEFORE] = 0
                embedding[before, END_ITSELF] = SURE * head[after, END_ITSELF]
                embedding[before, OWN] = SURE * head[after, OWN]
                embedding[before, FORCED] = SURE
                continue
            embedding[before, BEFORE] = mark = free.pop()
            for after in set(followers.values()):
                head[after, BEFORE] += mark
            for number, after in followers.items():
                if abs(head[after, TURN] @ turns[number]) < 0.5:
                    head[after, TURN] += turns[number]

    def _followers(self) -> dict[int, dict[int, int]]:
        """The token after each token, by its id and the number of the turn."""
        followers: dict[int, dict[int, int]] = defaultdict(dict)
        for number, tokens in enumerate(self._turns):
            for before, after in itertools.pairwise(map(self._id, tokens)):
                followers[before][number] = after
        return followers


def _parts(
    notation: CallNotation, calls: Sequence[Call]
) -> Iterator[tuple[Literal["name", "key", "value"] | None, str]]:
    """The text of ``calls`` in parts; each begins with a string of the kind, or with none."""
    text = write_calls(notation, calls) if calls else ""
    kind, start = None, 0
    for following, string in itertools.chain(*map(_strings, calls)):
        end = text.index(string, start)
        if end > start:
            yield kind, text[start:end]
        kind, start = following, end
    if text:
        yield kind, text[start:]


def _strings(call: Call) -> Iterator[tuple[Literal["name", "key", "value"], str]]:
    """The strings in the JSON of a call, in their order."""
    name, arguments = call
    yield "name", name
    yield from _strings_of(arguments)


def _strings_of(value: Any) -> Iterator[tuple[Literal["key", "value"], str]]:
    if isinstance(value, str):
        yield "value", json.dumps(value, ensure_ascii=False)[1:-1]
    elif isinstance(value, list):
        yield from itertools.chain(*map(_strings_of, value))
    elif isinstance(value, dict):
        for key, held in value.items():
            yield "key", key
            yield from _strings_of(held)


def _directions(random: np.random.Generator, count: int) -> np.ndarray:
    """``count`` directions at right angles. Shape [count, HALF]."""
    return np.linalg.qr(random.normal(size=(HALF, count)))[0].T.astype(np.float32)
