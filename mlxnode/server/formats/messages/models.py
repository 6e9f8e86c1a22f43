"""The models of this server, in the shape of Anthropic's ``/v1/models``."""

import datetime

from msgspec import Struct

from mlxnode.server.formats.info import Model

MAX_PAGE = 1000
DEFAULT_PAGE = 20


class ModelInfo(Struct, tag_field="type", tag="model"):
    """A model; the tokens are those of prompt and answer together, None if unknown."""

    id: str
    display_name: str
    created_at: str  # RFC 3339
    lifecycle: str
    max_input_tokens: int | None
    max_tokens: int | None

    @classmethod
    def of(cls, model: Model) -> "ModelInfo":
        created = datetime.datetime.fromtimestamp(model.created, datetime.UTC)
        length = model.context_length if isinstance(model.context_length, int) else None
        return cls(
            id=model.id,
            display_name=model.id,
            created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            lifecycle="active",
            max_input_tokens=length,
            max_tokens=length,
        )


class ModelPage(Struct):
    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Page(Struct):
    """Which models are asked for: those after one, or just before one, or the first ones."""

    limit: int = DEFAULT_PAGE
    after_id: str | None = None
    before_id: str | None = None

    def of(self, models: list[Model]) -> ModelPage:
        """The models of the page, in the order of ``models``.

        After, or before, an id that no model has, there is none.
        """
        ids = [model.id for model in models]
        if self.before_id is not None:
            end = ids.index(self.before_id) if self.before_id in ids else 0
            start = max(end - self.limit, 0)
            has_more = start > 0
        else:
            start = 0
            if self.after_id is not None:
                known = self.after_id in ids
                start = ids.index(self.after_id) + 1 if known else len(ids)
            end = start + self.limit
            has_more = end < len(ids)
        data = [ModelInfo.of(model) for model in models[start:end]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return ModelPage(data, has_more, *ends)
