"""The models that are served, with the tokenizer and the defaults of each."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxnode.config.tables import ModelType
from mlxnode.errors import ModelError, panics_caught, reason_of
from mlxnode.messages.data import Sampling
from mlxnode.models.plain_files import read_object
from mlxnode.models.rerank.config import RerankerConfig, read_reranker_config
from mlxnode.models.rerank.tokenizer import PairTokenizer, load_pair_tokenizer
from mlxnode.models.sentence.config import SentenceConfig, read_sentence_config
from mlxnode.models.sentence.tokenizer import SentenceTokenizer
from mlxnode.models.served import ServedModel
from mlxnode.server.errors import InvalidRequest, ModelFailed, NotFound, Unavailable
from mlxnode.server.prompt.thinking import ThinkingTokens
from mlxnode.server.prompt.tokenizers import TextTokenizer
from mlxnode.server.prompt.volatile import VolatileHeads

logger = logging.getLogger("mlxnode.server")

_ENDPOINTS: dict[ModelType, str] = {
    "chat": "/v1/chat/completions and /v1/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings, /v1/rerank and /v1/score",
    "rerank": "/v1/rerank and /v1/score",
}


@dataclass(frozen=True)
class TextModel:
    """A model that generates text."""

    served: ServedModel
    tokenizer: TextTokenizer
    defaults: Sampling  # for the parameters that a request does not set
    thinking: ThinkingTokens | None = None  # None: the model does not reason


@dataclass(frozen=True)
class EmbeddingModel:
    """A model that embeds text."""

    served: ServedModel
    tokenizer: SentenceTokenizer
    config: SentenceConfig

    @property
    def max_length(self) -> int:
        """The largest number of tokens of an input."""
        return min(self.served.context_length, self.config.max_length)

    @property
    def dimensions(self) -> int:
        """The size of a vector, unless a request has it cut to a smaller size."""
        return self.served.dimensions or self.config.dimensions


@dataclass(frozen=True)
class RerankModel:
    """A model that scores how well a document answers a query."""

    served: ServedModel
    tokenizer: PairTokenizer
    config: RerankerConfig

    @property
    def max_length(self) -> int:
        """The largest number of tokens of a query and a document."""
        return min(self.served.context_length, self.config.max_length)


ServerModel = TextModel | EmbeddingModel | RerankModel


class Registry:
    """Finds a model by the id in a request.

    ``types`` has all configured models. ``described`` has those whose files could be read, and
    ``failed`` those that cannot be served now, each with the reason.
    """

    def __init__(
        self,
        models: list[ServedModel],
        configured: Mapping[str, ModelType] | None = None,
        volatile_prompt_patterns: Sequence[str] = (),
        *,
        allow_control_tokens: bool = False,
    ):
        """Load every tokenizer. A model whose files cannot be used is in ``failed``.

        ``volatile_prompt_patterns`` and ``allow_control_tokens``: the keys of ``[server]``.
        """
        volatile = VolatileHeads(volatile_prompt_patterns)
        self.types: dict[str, ModelType] = dict(configured or {})
        self.types.update({model.id: model.type for model in models})
        self.described = {model.id: model for model in models}
        self.failed: dict[str, str] = {}
        self._text: dict[str, TextModel] = {}
        self._embedding: dict[str, EmbeddingModel] = {}
        self._rerank: dict[str, RerankModel] = {}
        for model in models:
            try:
                with panics_caught():
                    self._load(model, volatile, allow_control_tokens)
            except Exception as error:  # of any type: tokenizers and templates are foreign data
                self.failed[model.id] = reason_of(error)
        self._own_failed = dict(self.failed)

    def _load(
        self, model: ServedModel, volatile: VolatileHeads, allow_control_tokens: bool
    ) -> None:
        if model.type == "embedding":
            self._embedding[model.id] = _load_embedding(model)
        elif model.type == "rerank":
            self._rerank[model.id] = _load_rerank(model)
        else:
            own = model.allow_control_tokens
            allow = allow_control_tokens if own is None else own
            self._text[model.id] = _load_text(model, volatile, allow)

    @property
    def served(self) -> dict[str, ServedModel]:
        """The models that requests can use, by id."""
        return {
            id: self.described[id]
            for id in self.types
            if id in self.described and id not in self.failed
        }

    def set_failed(self, reasons: Mapping[str, str]) -> None:
        """Replace what the supervisor has said about failed models; own failures stay."""
        self.failed = dict(reasons) | self._own_failed

    def restricted_to(self, model_ids: frozenset[str] | None) -> "Registry":
        """The registry for a key that may use only these models; None means all."""
        if model_ids is None:
            return self
        view = copy.copy(self)
        view.types = {id: type for id, type in self.types.items() if id in model_ids}
        return view

    def check_known(self, model_id: str) -> None:
        """Raises NotFound for an id that is not configured."""
        if model_id not in self.types:
            raise NotFound(
                f"The model '{model_id}' does not exist. Served here: {', '.join(self.served)}",
                param="model",
                code="model_not_found",
            )

    def find(self, model_id: str) -> ServedModel:
        """Raises NotFound for an id that is not configured, Unavailable for a failed model."""
        self.check_known(model_id)
        if (reason := self.failed.get(model_id)) is not None:
            raise ModelFailed(model_id, reason)
        if model_id not in self.described:  # the supervisor says why before it says ready
            raise Unavailable(f"The model '{model_id}' is not ready; try again in a moment")
        return self.described[model_id]

    @property
    def text_models(self) -> list[TextModel]:
        """The models that generate text."""
        return [self._text[id] for id in self.served if id in self._text]

    @property
    def takes_instructions(self) -> bool:
        """True if a served reranker can be told what a query asks for."""
        served = self.served
        return any(
            model.tokenizer.takes_instruction
            for id, model in self._rerank.items()
            if id in served
        )

    def find_chat(self, model_id: str) -> TextModel:
        """Raises NotFound, and InvalidRequest for a model that has no chat template."""
        if self.find(model_id).type != "chat":
            raise self._wrong_type(model_id)
        return self._text[model_id]

    def find_text(self, model_id: str) -> TextModel:
        """Raises NotFound, and InvalidRequest for a model that generates no text."""
        if not self.find(model_id).generates_text:
            raise self._wrong_type(model_id)
        return self._text[model_id]

    def find_embedding(self, model_id: str) -> EmbeddingModel:
        """Raises NotFound, and InvalidRequest for a model that does not embed."""
        if self.find(model_id).type != "embedding":
            raise self._wrong_type(model_id)
        return self._embedding[model_id]

    def find_scorer(self, model_id: str) -> RerankModel | EmbeddingModel:
        """Raises NotFound, and InvalidRequest for a model that generates text."""
        if self.find(model_id).generates_text:
            raise self._wrong_type(model_id)
        return self._rerank.get(model_id) or self._embedding[model_id]

    def find_any(self, model_id: str | None) -> ServerModel:
        """The model of any type; None: the only one that generates text, or the only one.

        Raises:
            NotFound: the id is not configured.
            InvalidRequest: there is no id, and several models are served.
        """
        if model_id is None:
            model_id = self._only_model()
        type = self.find(model_id).type
        found = {"embedding": self._embedding, "rerank": self._rerank}.get(type, self._text)
        return found[model_id]

    @property
    def only_model(self) -> str | None:
        """The id that a request for a model of any type may leave out; None: it may not."""
        texts = [id for id in self.served if id in self._text]
        ids = texts or list(self.served)
        return ids[0] if len(ids) == 1 else None

    def _only_model(self) -> str:
        if (only := self.only_model) is None:
            raise InvalidRequest(
                "Missing required parameter: 'model'. Several models are served here: "
                f"{', '.join(self.served)}",
                param="model",
                code="missing_required_parameter",
            )
        return only

    def _wrong_type(self, model_id: str) -> InvalidRequest:
        kind = self.types[model_id]
        return InvalidRequest(
            f"The model '{model_id}' is served as type \"{kind}\": "
            f"use it at {_ENDPOINTS[kind]}",
            param="model",
            code="model_not_supported",
        )


def _load_text(
    served: ServedModel, volatile: VolatileHeads, allow_control_tokens: bool
) -> TextModel:
    tokenizer = TextTokenizer(
        served.folder, volatile, allow_control_tokens=allow_control_tokens
    )
    if served.type == "chat" and not tokenizer.has_chat_template:
        raise ModelError('the model has no chat template; serve it with type = "completion"')
    notation = tokenizer.chat_template.notation
    if served.type == "chat" and notation.source == "plain":
        logger.info("%s: tools are told in plain words: %s", served.id, notation.reason)
    thinking = tokenizer.thinking_tokens(served.thinking_budget_message)
    return TextModel(served, tokenizer, _read_defaults(served), thinking)


def _load_embedding(served: ServedModel) -> EmbeddingModel:
    config = read_sentence_config(served.folder)
    return EmbeddingModel(served, SentenceTokenizer(served.folder, config), config)


def _load_rerank(served: ServedModel) -> RerankModel:
    config = read_reranker_config(served.folder)
    return RerankModel(served, load_pair_tokenizer(served.folder, config), config)


def _read_defaults(served: ServedModel) -> Sampling:
    """The configured temperature, else generation_config.json, else OpenAI's default of 1."""
    file = served.folder / "generation_config.json"
    own = read_object(file) if file.exists() else {}
    return Sampling(
        temperature=float(_first(served.default_temperature, own.get("temperature"), 1.0)),
        top_p=float(_first(own.get("top_p"), 1.0)),
        top_k=int(_first(own.get("top_k"), 0)),
        min_p=float(_first(own.get("min_p"), 0.0)),
        repetition_penalty=float(_first(own.get("repetition_penalty"), 1.0)),
    )


def _first(*values: Any) -> Any:
    """The first value that is set."""
    return next(value for value in values if value is not None)
