"""The queries of the URLs of stored answers."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class RetrieveQuery(Struct):
    """A stored answer is whole: it is not streamed again."""

    stream: Literal["false"] = "false"


class InputItemsQuery(Struct):
    """A page of items: at most ``limit``, those after the item ``after``."""

    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    after: str = ""
