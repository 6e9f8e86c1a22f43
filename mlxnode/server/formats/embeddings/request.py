"""From the body of ``/v1/embeddings`` to inputs as token ids."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlxnode.models.sentence.tokenizer import Frame
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.formats.inputs import as_texts, as_token_ids
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.prompt.tokenizers import check_token_ids
from mlxnode.server.registry.opened import EmbeddingModel


async def encode_inputs(
    body: EmbeddingBody, model: EmbeddingModel, limit: int
) -> list[list[int]]:
    """The token ids of each input: of a text with special tokens, or as they were sent.

    Raises:
        InvalidRequest: naming the input that is empty, too long, or of another tokenizer; or
            all inputs have more than ``limit`` tokens.
    """
    size = sum(map(len, as_texts(body.input) or as_token_ids(body.input)))
    return await off_loop(size, _encode, body, model, limit)


def _encode(body: EmbeddingBody, model: EmbeddingModel, limit: int) -> list[list[int]]:
    fit = _Fit.of(body, model)
    inputs: Iterable[list[int]]
    if texts := as_texts(body.input):
        # No further than they can be read, and no more of them than may be sent.
        inputs = model.tokenizer.encode(texts, fit.limit, start=fit.cuts_start)
    else:
        inputs = as_token_ids(body.input)
        check_token_ids(inputs, model.config.vocabulary_size, "input")
        if not model.served.allow_bare_token_ids:
            _check_frames(body, inputs, model)
    fitted: list[list[int]] = []
    num_tokens = 0
    for index, ids in enumerate(inputs):
        fitted.append(fit.one(body, index, ids))
        num_tokens += len(fitted[-1])
        if num_tokens > limit:
            raise InvalidRequest(
                f"Requested {num_tokens} tokens or more, max {limit} tokens per request.",
                param="input",
                code="max_tokens_per_request",
            )
    return fitted


def _check_frames(body: EmbeddingBody, inputs: list[list[int]], model: EmbeddingModel) -> None:
    """Raises InvalidRequest for ids without the tokens that the model's tokenizer adds.

    The ids of another tokenizer are valid ids of this one, and give a vector of another text.
    """
    frame = model.tokenizer.frame
    for index, ids in enumerate(inputs):
        if not frame.is_around(ids):
            problem = (
                "these token ids are not as this model's tokenizer gives them: "
                f"{_told(frame)}. They may be of another tokenizer, and would give the vector "
                "of another text. Send texts: in LangChain, "
                "OpenAIEmbeddings(check_embedding_ctx_length=False). The key "
                "allow_bare_token_ids of the model's table in the node's configuration allows "
                "such ids"
            )
            raise _refusal(body, index, problem, "foreign_token_ids")


def _told(frame: Frame) -> str:
    ends = {"start": frame.start, "end": frame.end}
    return " and ".join(f"those {name} with {ids}" for name, ids in ends.items() if ids)


@dataclass(frozen=True)
class _Fit:
    """How inputs are made to fit the model."""

    frame: Frame
    limit: int  # tokens
    truncates: bool
    cuts_start: bool

    @classmethod
    def of(cls, body: EmbeddingBody, model: EmbeddingModel) -> "_Fit":
        """Raises InvalidRequest if the request leaves no token of an input."""
        frame = model.tokenizer.frame
        limit = min(body.max_tokens or model.max_length, model.max_length)
        least = len(frame.start) + len(frame.end) + 1
        if body.max_tokens is not None and body.max_tokens < least:
            raise InvalidRequest(
                f"Invalid 'truncate_prompt_tokens': expected a value >= {least}, as this "
                f"model's tokenizer adds {least - 1} tokens, got {body.max_tokens}.",
                param="truncate_prompt_tokens",
                code="integer_below_min_value",
            )
        truncates = model.served.truncate_inputs if body.truncates is None else body.truncates
        return cls(frame, limit, truncates, body.cuts_start)

    def one(self, body: EmbeddingBody, index: int, ids: list[int]) -> list[int]:
        """An input within the limit. Raises InvalidRequest if it is too long."""
        if len(ids) > self.limit and not self.truncates:
            problem = (
                f"expected at most {self.limit} tokens, got {len(ids)} or more; "
                '"truncate": true cuts long inputs'
            )
            raise _refusal(body, index, problem, "context_length_exceeded")
        return self.frame.cut(ids, self.limit, start=self.cuts_start)


def _refusal(body: EmbeddingBody, index: int, problem: str, code: str) -> InvalidRequest:
    is_single = isinstance(body.input, str) or isinstance(body.input[0], int)
    path = "input" if is_single else f"input[{index}]"
    return InvalidRequest(f"Invalid '{path}': {problem}.", param=path, code=code)
