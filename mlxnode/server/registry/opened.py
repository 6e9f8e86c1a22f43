"""A model as a worker uses it: with its tokenizer and its defaults, read from its files."""

import logging
from dataclasses import dataclass
from typing import Any

from mlxnode.errors import ModelError
from mlxnode.messages.data import Sampling
from mlxnode.models.plain_files import read_object
from mlxnode.models.rerank.config import RerankerConfig, read_reranker_config
from mlxnode.models.rerank.tokenizer import PairTokenizer, load_pair_tokenizer
from mlxnode.models.sentence.config import SentenceConfig, read_sentence_config
from mlxnode.models.sentence.tokenizer import SentenceTokenizer
from mlxnode.models.served import ServedModel
from mlxnode.server.prompt.thinking import ThinkingTokens
from mlxnode.server.prompt.tokenizers import TextTokenizer
from mlxnode.server.prompt.volatile import VolatileHeads

logger = logging.getLogger("mlxnode.server")


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


def open_model(
    served: ServedModel, volatile: VolatileHeads, *, allow_control_tokens: bool
) -> ServerModel:
    """Read the tokenizer, the template and the defaults of ``served``; may take seconds.

    ``allow_control_tokens``: where the model's own table does not say it.

    Raises:
        Exception: of any type, as tokenizers and templates are foreign data.
    """
    if served.type == "embedding":
        config = read_sentence_config(served.folder)
        return EmbeddingModel(served, SentenceTokenizer(served.folder, config), config)
    if served.type == "rerank":
        reranker = read_reranker_config(served.folder)
        return RerankModel(served, load_pair_tokenizer(served.folder, reranker), reranker)
    own = served.allow_control_tokens
    return _open_text(served, volatile, allow_control_tokens if own is None else own)


def _open_text(
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
