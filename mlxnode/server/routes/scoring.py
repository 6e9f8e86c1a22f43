"""Scores pairs of texts for an endpoint: encode, compute."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from sanic import Request

from mlxnode.models.rerank.tokenizer import Pair, PairTokenizer, Texts, first_tokens
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.http.context import context_of
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.registry.opened import EmbeddingModel, RerankModel
from mlxnode.server.routes.embed import embed, normalized

_SLICE = 64  # pairs that are encoded before their tokens are counted
# More tokens of a query than this beyond the longest input cannot change the input.
_MARGIN = 16


@dataclass(frozen=True)
class Comparison:
    """What is scored: ``queries`` and ``documents`` are of one length, pair by pair.

    ``params`` are the fields that hold them, ``singles`` those that hold one text.
    ``max_tokens`` cuts the texts shorter than the model would, and ``max_document_tokens`` the
    documents alone; ``may_cut`` False refuses texts that are too long.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    params: tuple[str, str]
    singles: tuple[str, ...] = ()
    instruction: str | None = None
    max_tokens: int | None = None
    max_document_tokens: int | None = None
    may_cut: bool = True

    def path(self, param: str, index: int) -> str:
        """The name of a text in an error."""
        return param if param in self.singles else f"{param}[{index}]"

    def shortened(self, backend: Any, longest: int) -> "Comparison":
        """The same without tokens that no input of ``longest`` tokens has."""
        limit = longest + _MARGIN
        return replace(
            self,
            queries=_each_once(self.queries, backend, limit),
            documents=_each_once(self.documents, backend, self.max_document_tokens or limit),
        )


class Scored(NamedTuple):
    """The score of each pair, and the number of tokens that were read."""

    scores: list[float]
    num_tokens: int


class _Encoded(NamedTuple):
    """``starts``: as ``messages.Embed`` has them. ``pairs``: of inputs to compare, if any."""

    inputs: list[list[int]]
    starts: list[int]
    pairs: list[tuple[int, int]]


async def score(
    request: Request, model: RerankModel | EmbeddingModel, comparison: Comparison
) -> Scored:
    """The scores of ``comparison``; with an embedding model, the similarity of the vectors.

    Raises:
        ApiError: texts that the model cannot take, a reached limit, or a failed engine.
    """
    size = sum(map(len, chain(comparison.queries, comparison.documents)))
    limit = context_of(request).config.server.max_embedding_tokens
    encoded = await off_loop(size, _encode, model, comparison, limit)
    num_tokens = sum(map(len, encoded.inputs))
    vectors = await embed(request, model.served.id, encoded.inputs, starts=encoded.starts)
    if isinstance(model, RerankModel):
        return Scored(vectors[:, 0].tolist(), num_tokens)
    return Scored(_similarities(vectors, encoded.pairs), num_tokens)


def _encode(
    model: RerankModel | EmbeddingModel, comparison: Comparison, limit: int
) -> _Encoded:
    """The inputs of the engine, of at most ``limit`` tokens.

    Raises:
        InvalidRequest: there are more tokens, or a text or parameter does not fit the model.
    """
    if comparison.instruction is not None and not (
        isinstance(model, RerankModel) and model.tokenizer.takes_instruction
    ):
        raise InvalidRequest(
            f"Unsupported parameter: the model '{model.served.id}' takes no instruction.",
            param="instruction",
            code="unsupported_parameter",
        )
    longest = model.max_length
    if comparison.max_tokens is not None:
        longest = min(longest, comparison.max_tokens)
    shortened = comparison.shortened(model.tokenizer.backend, longest)
    if isinstance(model, RerankModel):
        return _encode_pairs(model.tokenizer, shortened, longest, limit)
    return _encode_texts(model, shortened, longest, limit)


def _encode_pairs(
    tokenizer: PairTokenizer, comparison: Comparison, longest: int, limit: int
) -> _Encoded:
    """Each pair is one input."""
    texts = list(map(Texts, comparison.queries, comparison.documents))
    pairs: list[Pair] = []
    for at in range(0, len(texts), _SLICE):
        try:
            pairs += tokenizer.encode(texts[at : at + _SLICE], longest, comparison.instruction)
        except ValueError as error:
            raise _too_few(longest, str(error)) from error
        _check_total(sum(len(pair.ids) for pair in pairs), comparison, limit)
    for index, pair in enumerate(pairs):
        if pair.num_cut and not comparison.may_cut:
            param = comparison.path(comparison.params[1], index)
            raise _too_long(param, len(pair.ids) + pair.num_cut, longest)
    starts = [pair.start for pair in pairs if pair.start is not None]
    return _Encoded([pair.ids for pair in pairs], starts, [])


def _encode_texts(
    model: EmbeddingModel, comparison: Comparison, longest: int, limit: int
) -> _Encoded:
    """Each text is one input, once: the queries first, then the documents."""
    inputs: list[list[int]] = []
    rows: list[dict[str, int]] = []
    frame = model.tokenizer.frame
    if longest <= (num_special := len(frame.start) + len(frame.end)):
        raise _too_few(longest, f"{num_special} tokens are special tokens")
    both = (comparison.queries, comparison.documents)
    encoders = (model.tokenizer.encode_queries, model.tokenizer.encode_documents)
    for texts, encode, param in zip(both, encoders, comparison.params, strict=True):
        distinct = _distinct(texts)
        rows.append({text: len(inputs) + at for at, text in enumerate(distinct)})
        for text, ids in zip(distinct, encode(distinct, longest), strict=True):
            if len(ids) > longest and not comparison.may_cut:
                path = comparison.path(param, texts.index(text))
                raise _too_long(path, len(ids), longest)
            inputs.append(frame.cut(ids, longest))
    _check_total(sum(map(len, inputs)), comparison, limit)
    queries, documents = rows
    pairs = [(queries[q], documents[d]) for q, d in zip(*both, strict=True)]
    return _Encoded(inputs, [], pairs)


def _each_once(texts: Sequence[str], backend: Any, limit: int) -> list[str]:
    """The first ``limit`` tokens of each text; equal texts are encoded once."""
    distinct = _distinct(texts)
    short = dict(zip(distinct, first_tokens(backend, distinct, limit), strict=True))
    return [short[text] for text in texts]


def _check_total(num_tokens: int, comparison: Comparison, limit: int) -> None:
    """Raises InvalidRequest for more tokens than one request may have."""
    if num_tokens > limit:
        raise InvalidRequest(
            f"Requested {num_tokens} tokens or more, max {limit} tokens per request.",
            param=comparison.params[1],
            code="max_tokens_per_request",
        )


def _too_few(longest: int, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid 'truncate_prompt_tokens': {longest} tokens are too few: {reason}.",
        param="truncate_prompt_tokens",
        code="integer_below_min_value",
    )


def _too_long(param: str, num_tokens: int, longest: int) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}': expected at most {longest} tokens, got {num_tokens} or more.",
        param=param,
        code="context_length_exceeded",
    )


def _distinct(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _similarities(vectors: np.ndarray, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """The cosine of each pair of rows. Shapes: vectors [N, dimensions]"""
    vectors = normalized(vectors)
    first, second = np.array(pairs).T
    return (vectors[first] * vectors[second]).sum(axis=1).tolist()
