"""Finds the model of a request, among those that its key may use."""

import asyncio
import copy
from collections.abc import Mapping, Sequence

from mlxnode.config.tables import ModelType, ServerConfig
from mlxnode.errors import reason_of
from mlxnode.messages.control import Models
from mlxnode.messages.data import ModelStates
from mlxnode.models.served import ServedModel
from mlxnode.server.errors import InvalidRequest, ModelFailed, NotFound, Unavailable
from mlxnode.server.prompt.volatile import VolatileHeads
from mlxnode.server.registry.catalog import Catalog, Status
from mlxnode.server.registry.facts import Facts, read_facts
from mlxnode.server.registry.opened import (
    EmbeddingModel,
    RerankModel,
    ServerModel,
    TextModel,
    open_model,
)
from mlxnode.server.registry.opener import Opener

_ENDPOINTS: dict[ModelType, str] = {
    "chat": "/v1/chat/completions and /v1/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings, /v1/rerank and /v1/score",
    "rerank": "/v1/rerank and /v1/score",
}


class Registry:
    """The models that one key may use; all views share the catalog and the open models.

    A name is an id or an alias. A model is opened when a request needs its tokenizer: the
    methods that do so wait for it, and raise ModelFailed if its files cannot be used.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        types: Mapping[str, ModelType] | None = None,
        server: ServerConfig | None = None,
    ):
        """``types`` has all configured models, also those that cannot be described."""
        server = server or ServerConfig()
        volatile = VolatileHeads(server.volatile_prompt_patterns)
        allow = server.allow_control_tokens

        def open_one(served: ServedModel) -> ServerModel:
            return open_model(served, volatile, allow_control_tokens=allow)

        self.catalog = Catalog(models, types or {})
        self.opener = Opener(open_one)
        self._allowed: frozenset[str] | None = None  # None: all

    # --- what the node says -------------------------------------------------------------

    def replace(self, models: Models) -> None:
        """Know ``models`` from now on. Requests that run keep the models that they have."""
        for id in self.catalog.replace(models):
            self.opener.forget(id)

    def note_states(self, told: ModelStates | None) -> None:
        """The engine has ``told`` the states of its models; None: there is no engine."""
        for id, state in self.catalog.note_states(told):
            if state == "unloaded":
                self.opener.forget(id)
            elif state == "loaded":  # an administrator may have asked for another try
                self.opener.try_again(id)
        self._trim()

    def _trim(self) -> None:
        if (held := self.catalog.held) is not None:
            self.opener.trim(held)

    async def open_preloaded(self) -> None:
        """Open what the engine loads by itself, one after the other.

        What cannot be opened is in ``failed``.
        """
        for model in list(self.catalog.described.values()):
            is_current = self.catalog.described.get(model.id) is model
            if is_current and (model.preload or model.is_pinned):
                try:
                    await self.opener.open(model)
                except Exception:  # a shortage: the first request tries again
                    continue

    # --- which models there are ----------------------------------------------------------

    def restricted_to(self, model_ids: frozenset[str] | None) -> "Registry":
        """The registry for a key that may use only these models; None means all."""
        view = copy.copy(self)
        view._allowed = model_ids
        return view

    @property
    def types(self) -> dict[str, ModelType]:
        """All models by id, also those that cannot be served now."""
        types, allowed = self.catalog.types, self._allowed
        return {id: type for id, type in types.items() if allowed is None or id in allowed}

    @property
    def aliases(self) -> dict[str, str]:
        """The other names that requests may use, each with an id."""
        types = self.types
        return {name: id for id in types for name in self.catalog.names_of(id)}

    @property
    def failed(self) -> dict[str, str]:
        """The models that cannot be served now, of all keys, each with the reason."""
        held = self.catalog.held or ()
        reasons = {id: why for id, why in self.catalog.reasons.items() if id not in held}
        return reasons | self.opener.failed

    @property
    def served(self) -> dict[str, ServedModel]:
        """The models that requests can use, by id."""
        described, failed = self.catalog.described, self.failed
        return {id: described[id] for id in self.types if id in described and id not in failed}

    def status_of(self, model_id: str) -> tuple[Status, str | None]:
        """The state of a model by its id; with the reason, if it fails."""
        if (reason := self.failed.get(model_id)) is not None:
            return "failed", reason
        return self.catalog.state(model_id), None

    async def facts(self) -> dict[str, Facts]:
        """What the files of the described models tell, by id. No model is opened."""
        catalog, ids = self.catalog, self.types.keys()
        models = [model for id, model in catalog.described.items() if id in ids]
        unread = [model for model in models if model.id not in catalog.facts]
        if unread:
            found = await asyncio.to_thread(lambda: [read_facts(model) for model in unread])
            for model, facts in zip(unread, found, strict=True):
                if catalog.described.get(model.id) is model:
                    catalog.facts[model.id] = facts
        return {id: catalog.facts.get(id, Facts()) for id in (model.id for model in models)}

    # --- the model of a request ------------------------------------------------------------

    def id_of(self, name: str) -> str:
        """The id of the model that a request calls ``name``.

        Raises:
            NotFound: there is no such model for this key.
        """
        types = self.types
        id = name if name in types else self.catalog.aliases.get(name)
        if id is None or id not in types:
            raise NotFound(
                f"The model '{name}' does not exist. Served here: {', '.join(self.served)}",
                param="model",
                code="model_not_found",
            )
        return id

    def find(self, name: str) -> ServedModel:
        """The model that a request calls ``name``, which need not be open.

        Raises:
            NotFound: there is no such model for this key.
            Unavailable: it cannot be served now.
        """
        id = self.id_of(name)
        reason = self.opener.refusal(id)
        if reason is None and not self.catalog.is_known_to_the_engine(id):
            reason = self.catalog.reasons.get(id)
        # Of a model that it knows, the engine says itself when it tries again to load it.
        if reason is not None:
            raise ModelFailed(id, reason)
        if id not in self.catalog.described:  # the supervisor says why before it says ready
            raise Unavailable(f"The model '{id}' is not ready; try again in a moment")
        return self.catalog.described[id]

    async def find_chat(self, name: str) -> TextModel:
        """Raises NotFound, and InvalidRequest for a model that has no chat template."""
        return await self._find_text(name, ("chat",))

    async def find_text(self, name: str) -> TextModel:
        """Raises NotFound, and InvalidRequest for a model that generates no text."""
        return await self._find_text(name, ("chat", "completion"))

    async def _find_text(self, name: str, types: Sequence[ModelType]) -> TextModel:
        model = self.find(name)
        opened = await self._open(model) if model.type in types else None
        if not isinstance(opened, TextModel):
            raise _wrong_type(self.find(model.id))
        return opened

    async def find_embedding(self, name: str) -> EmbeddingModel:
        """Raises NotFound, and InvalidRequest for a model that does not embed."""
        model = self.find(name)
        opened = await self._open(model) if model.type == "embedding" else None
        if not isinstance(opened, EmbeddingModel):
            raise _wrong_type(self.find(model.id))
        return opened

    async def find_scorer(self, name: str) -> RerankModel | EmbeddingModel:
        """Raises NotFound, and InvalidRequest for a model that generates text."""
        model = self.find(name)
        opened = None if model.generates_text else await self._open(model)
        if not isinstance(opened, RerankModel | EmbeddingModel):
            raise _wrong_type(self.find(model.id))
        return opened

    async def find_any(self, name: str | None) -> ServerModel:
        """The model of any type; None: the only one that generates text, or the only one.

        Raises:
            NotFound: there is no such model.
            InvalidRequest: there is no name, and several models are served.
        """
        return await self._open(self.find(self._only_model() if name is None else name))

    async def _open(self, model: ServedModel) -> ServerModel:
        """The open ``model``; if it is another one by then, that one."""
        while True:
            opened = await self.opener.open(model)
            self._trim()
            now = self.find(model.id)
            if now is model:
                return opened
            model = now

    @property
    def only_model(self) -> str | None:
        """The id that a request for a model of any type may leave out; None: it may not."""
        served = self.served
        ids = [id for id, model in served.items() if model.generates_text] or list(served)
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


def _wrong_type(model: ServedModel) -> InvalidRequest:
    return InvalidRequest(
        f"The model '{model.id}' is served as type \"{model.type}\": "
        f"use it at {_ENDPOINTS[model.type]}",
        param="model",
        code="model_not_supported",
    )


def unopenable(models: Sequence[ServedModel]) -> dict[str, str]:
    """Those of ``models`` that a worker cannot open, by id, each with the reason."""

    async def open_all() -> dict[str, str]:
        opener, failed = Registry(models).opener, {}
        for model in models:
            try:
                await opener.open(model)
            except Exception as error:
                failed[model.id] = (
                    error.reason if isinstance(error, ModelFailed) else reason_of(error)
                )
            opener.forget(model.id)
        return failed

    return asyncio.run(open_all())
