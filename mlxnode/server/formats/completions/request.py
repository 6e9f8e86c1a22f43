"""From the body of ``/v1/completions`` to prompts as token ids."""

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.inputs import as_texts, as_token_ids
from mlxnode.server.prompt.context_length import TooLong, refusal
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.prompt.tokenizers import check_token_ids
from mlxnode.server.registry.opened import TextModel


async def encode_prompts(body: CompletionBody, model: TextModel) -> list[list[int]]:
    """The token ids of each prompt.

    Raises:
        InvalidRequest: a prompt is empty, has ids that the model does not have, or needs
            fill-in-the-middle tokens that the model does not have.
    """
    if texts := as_texts(body.prompt):
        prompts = await _encode(texts, body.suffix, model)
    else:
        ids = as_token_ids(body.prompt)
        prompts = await off_loop(sum(map(len, ids)), _check, ids, body.suffix, model)
    if not all(prompts):
        raise InvalidRequest("A prompt must not be empty", param="prompt", code="empty_prompt")
    return prompts


def first_prompt(body: CompletionBody) -> str | list[int]:
    """The first prompt, as the client wrote it."""
    texts = as_texts(body.prompt)
    return texts[0] if texts else as_token_ids(body.prompt)[0]


async def _encode(texts: list[str], suffix: str | None, model: TextModel) -> list[list[int]]:
    if suffix:
        before, between, after = _gap_markers(model)
        texts = [f"{before}{text}{between}{suffix}{after}" for text in texts]
    context_length = model.served.context_length
    try:
        return await model.tokenizer.encode(texts, context_length)
    except TooLong as error:
        raise refusal(str(error), context_length, "prompt") from error


def _check(prompts: list[list[int]], suffix: str | None, model: TextModel) -> list[list[int]]:
    if suffix:
        _gap_markers(model)
        raise InvalidRequest(
            "A 'suffix' needs prompts that are texts, not token ids",
            param="suffix",
            code="invalid_parameter_combination",
        )
    check_token_ids(prompts, model.tokenizer.vocabulary_size, "prompt")
    return prompts


def _gap_markers(model: TextModel) -> tuple[str, str, str]:
    """The model's fill-in-the-middle tokens. Raises InvalidRequest if it has none."""
    markers = model.tokenizer.fill_in_the_middle
    if markers is None:
        raise InvalidRequest(
            "Unsupported parameter: 'suffix' needs a model with fill-in-the-middle tokens; "
            f"'{model.served.id}' has none.",
            param="suffix",
            code="unsupported_parameter",
        )
    return markers
