"""The models of this server, in the shape of Anthropic's ``/v1/models``."""

import datetime
from typing import Annotated

from msgspec import Meta, Struct

from mlxnode.server.formats.models import Model


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


class PageQuery(Struct):
    """Which models are asked for: those after one, or just before one, or the first ones."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    after_id: str = ""
    before_id: str = ""

    def page(self, models: list[Model]) -> ModelPage:
        """The models that are asked for, in the order of ``models``.

        After, or before, an id that no model has, there is none.
        """
        ids = [model.id for model in models]
        if self.before_id:
            end = ids.index(self.before_id) if self.before_id in ids else 0
            start = max(end - self.limit, 0)
            has_more = start > 0
        else:
            start = 0
            if self.after_id:
                known = self.after_id in ids
                start = ids.index(self.after_id) + 1 if known else len(ids)
            end = start + self.limit
            has_more = end < len(ids)
        data = [ModelInfo.of(model) for model in models[start:end]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return ModelPage(data, has_more, *ends)
