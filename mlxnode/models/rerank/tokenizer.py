"""The token ids of a query and a document, as a reranker takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mlxnode.errors import ModelError
from mlxnode.models.rerank.config import RerankerConfig
from mlxnode.models.sentence.tokenizer import load_fast_tokenizer
from mlxnode.tokenizing import encode_all, shortened

# The prompt of Qwen3-Reranker, from its model card
# (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B).
_TASK = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
    'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_VERDICTS = ("no", "yes")


class Texts(NamedTuple):
    """A query and a document."""

    query: str
    document: str


class Pair(NamedTuple):
    """The token ids of both texts; ``num_cut`` tokens of the texts are left out.

    ``start`` is the first token of the document, if the model tells two texts apart.
    """

    ids: list[int]
    start: int | None
    num_cut: int


class PairTokenizer(Protocol):
    """Encodes pairs. Several threads can call ``encode`` at the same time."""

    backend: Any  # of the tokenizers package
    takes_instruction: bool

    def encode(
        self, pairs: Sequence[Texts], max_length: int, instruction: str | None
    ) -> list[Pair]:
        """Each of ``pairs``, cut to at most ``max_length`` tokens.

        Raises:
            ValueError: ``max_length`` leaves no room for the texts.
        """
        ...


def load_pair_tokenizer(folder: Path, config: RerankerConfig) -> PairTokenizer:
    """The tokenizer of the reranker in ``folder``.

    Raises:
        ModelError: the folder has no tokenizer, or one that cannot be used.
    """
    return JudgeTokenizer(folder) if config.is_decoder else CrossTokenizer(folder)


class CrossTokenizer:
    """Pairs for an encoder with a classification head, as sentence-transformers makes them."""

    takes_instruction = False

    def __init__(self, folder: Path):
        loaded = load_fast_tokenizer(folder)
        self.backend: Any = loaded.backend_tokenizer
        # A document must not end itself: its "[SEP]" is text.
        self.backend.encode_special_tokens = True
        self._has_types = "token_type_ids" in loaded.model_input_names
        self._num_special = self.backend.num_special_tokens_to_add(True)

    def encode(
        self, pairs: Sequence[Texts], max_length: int, instruction: str | None
    ) -> list[Pair]:
        """See ``PairTokenizer``; ``instruction`` must be None."""
        room = max_length - self._num_special
        if room < 1:
            raise ValueError(f"{self._num_special} tokens are special tokens")
        distinct = list(dict.fromkeys(text for pair in pairs for text in pair))
        encoded = self.backend.encode_batch(distinct, add_special_tokens=False)
        encodings = dict(zip(distinct, encoded, strict=True))
        return [self._join(encodings[query], encodings[text], room) for query, text in pairs]

    def _join(self, query: Any, document: Any, room: int) -> Pair:
        lengths = longest_first(len(query), len(document), room)
        texts = [
            encoding if len(encoding) == length else _cut(encoding, length)
            for encoding, length in zip((query, document), lengths, strict=True)
        ]
        joined = self.backend.post_process(*texts, True)
        start = _first_of(joined.type_ids) if self._has_types else None
        return Pair(joined.ids, start, len(query) + len(document) - sum(lengths))


class JudgeTokenizer:
    """Pairs for a decoder, which is asked whether the document answers the query."""

    takes_instruction = True

    def __init__(self, folder: Path):
        """Load the tokenizer.

        Raises:
            ModelError: it has not the tokens of the prompt and of the verdicts.
        """
        self.backend: Any = load_fast_tokenizer(folder).backend_tokenizer
        missing = [t for t in ("<|im_start|>", "<|im_end|>", *_VERDICTS) if not self._has(t)]
        if missing:
            raise ModelError(f"{folder}: the tokenizer has no token {missing[0]!r}")
        self._task, self._answer = (
            self.backend.encode(text, add_special_tokens=False).ids for text in (_TASK, _ANSWER)
        )
        # A document must not end itself and write the verdict: its control tokens are text.
        self.backend.encode_special_tokens = True

    def _has(self, token: str) -> bool:
        return self.backend.token_to_id(token) is not None

    def encode(
        self, pairs: Sequence[Texts], max_length: int, instruction: str | None
    ) -> list[Pair]:
        """See ``PairTokenizer``."""
        room = max_length - len(self._task) - len(self._answer)
        if room < 1:
            raise ValueError(f"the prompt has {max_length - room} tokens without the texts")
        task = _INSTRUCTION if instruction is None else instruction
        texts = [f"<Instruct>: {task}\n<Query>: {q}\n<Document>: {d}" for q, d in pairs]
        encoded = self.backend.encode_batch(texts, add_special_tokens=False)
        return [
            Pair(
                [*self._task, *encoding.ids[:room], *self._answer],
                None,
                max(len(encoding) - room, 0),
            )
            for encoding in encoded
        ]


def verdict_ids(folder: Path) -> tuple[int, int]:
    """The token ids of "no" and "yes".

    Raises:
        ModelError: the tokenizer cannot be loaded, or lacks one.
    """
    backend = load_fast_tokenizer(folder).backend_tokenizer
    no, yes = map(backend.token_to_id, _VERDICTS)
    if no is None or yes is None:
        raise ModelError(f'{folder}: the tokenizer has no tokens "yes" and "no"')
    return no, yes


def first_tokens(backend: Any, texts: Sequence[str], limit: int) -> list[str]:
    """The beginning of each text, of at most ``limit`` tokens."""
    heads = [shortened(backend, text, limit) for text in texts]
    encoded = encode_all(backend, heads, special=False)
    return [
        head if len(encoding) <= limit else head[: encoding.token_to_chars(limit)[0]]
        for head, encoding in zip(heads, encoded, strict=True)
    ]


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """The lengths of two texts that are cut to ``room`` tokens together, the longer first.

    As the tokenizers package cuts them: a text of at most half of the room stays whole.
    """
    if first + second <= room:
        return first, second
    small = room // 2
    if min(first, second) <= small:
        shorter = min(first, second)
        return (shorter, room - shorter) if first <= second else (room - shorter, shorter)
    return (small, room - small) if first <= second else (room - small, small)


def _cut(encoding: Any, length: int) -> Any:
    """A copy of the first ``length`` tokens; the encoding of a query is shared by pairs."""
    copy = type(encoding).merge([encoding], growing_offsets=False)
    copy.truncate(length)
    return copy


def _first_of(types: list[int]) -> int:
    """The index of the first token of type 1, which is the second text's."""
    return types.index(1) if 1 in types else len(types)
