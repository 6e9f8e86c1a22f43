"""``POST /tokenize`` and ``POST /detokenize``."""

from sanic import Blueprint, HTTPResponse, Request

from mlxnode.server.answer.conversation import ask
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.tokens.answers import Detokenization, Piece, Tokenization
from mlxnode.server.formats.tokens.schema import (
    AnswerOptions,
    ConversationBody,
    TextBody,
    TokensBody,
    schema_of,
)
from mlxnode.server.http.accounting import charge
from mlxnode.server.http.body import json_response, read_body, read_one_of, size_of
from mlxnode.server.http.context import registry_of
from mlxnode.server.prompt import inspection
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.prompt.tokenizers import check_token_ids
from mlxnode.server.registry.opened import ServerModel, TextModel
from mlxnode.tokenizing import least_tokens

blueprint = Blueprint("tokens")

_ALL = ("chat", "completion", "embedding", "rerank")
# Of a text, where the model's context is shorter. Millions of ids would hold up the worker.
MAX_TOKENS = 131_072


@blueprint.post(
    "/tokenize",
    ctx_bodies=((TextBody, _ALL), (ConversationBody, ("chat",))),
    ctx_answer=Tokenization,
)
async def tokenize(request: Request) -> HTTPResponse:
    """The token ids of a text, or of the prompt that a conversation becomes."""
    registry = registry_of(request)
    body: TextBody | ConversationBody = await read_one_of(
        request, schema_of, model=registry.only_model
    )
    if isinstance(body, TextBody):
        model = await registry.find_any(body.model)
        ids = await off_loop(len(body.text), _text_ids, model, body)
    else:
        model = await registry.find_chat(body.model)
        size = size_of(request)
        conversation = await off_loop(size, to_conversation, body)
        ids = (await ask(conversation, model, size=size)).prompt.ids
    charge(request, model.served.id)
    return await off_loop(len(ids), _tokenization, model, ids, body)


@blueprint.post("/detokenize", ctx_models=_ALL, ctx_body=TokensBody, ctx_answer=Detokenization)
async def detokenize(request: Request) -> HTTPResponse:
    """The text of token ids, with special tokens."""
    body = await read_body(request, TokensBody)
    model = await registry_of(request).find_any(body.model)
    charge(request, model.served.id)
    return await off_loop(len(body.tokens), _detokenization, model, body.tokens)


def _detokenization(model: ServerModel, ids: list[int]) -> HTTPResponse:
    if ids:
        check_token_ids([ids], _vocabulary_size(model), "tokens")
    text = inspection.joined(model.tokenizer.backend, ids)
    return json_response(Detokenization(text, text))


def _text_ids(model: ServerModel, body: TextBody) -> list[int]:
    limit = max(_max_length(model), MAX_TOKENS)
    if least_tokens(model.tokenizer.backend, body.text, limit) is not None:
        raise _too_many(body, limit)
    ids = _all_ids(model, body)
    if len(ids) > limit:
        raise _too_many(body, limit)
    return ids


def _too_many(body: TextBody, limit: int) -> InvalidRequest:
    param = "content" if body.prompt is None else "prompt"
    text = f"Invalid '{param}': it has more than {limit} tokens; tokenize it in parts."
    return InvalidRequest(text, param=param, code="too_many_tokens")


def _all_ids(model: ServerModel, body: TextBody) -> list[int]:
    if isinstance(model, TextModel) and body.adds_special:
        [ids] = model.tokenizer.prompt_ids([body.text])
        return ids
    return inspection.plain_ids(model.tokenizer.backend, body.text, special=body.adds_special)


def _tokenization(model: ServerModel, ids: list[int], options: AnswerOptions) -> HTTPResponse:
    tokenizer = model.tokenizer.backend
    tokens: list[int | Piece] = [*ids]
    if options.with_pieces:
        pieces = inspection.texts(tokenizer, ids)
        tokens = [Piece(id, piece) for id, piece in zip(ids, pieces, strict=True)]
    entries = inspection.entries(tokenizer, ids) if options.return_token_strs else None
    return json_response(Tokenization(len(ids), _max_length(model), tokens, entries))


def _max_length(model: ServerModel) -> int:
    return model.served.context_length if isinstance(model, TextModel) else model.max_length


def _vocabulary_size(model: ServerModel) -> int:
    if isinstance(model, TextModel):
        return model.tokenizer.vocabulary_size
    return model.config.vocabulary_size
