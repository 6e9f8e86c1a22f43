"""The response body of ``/admin/keys``."""

from typing import Literal

from msgspec import Struct


class Key(Struct):
    """An accepted key, without the key itself."""

    id: str
    is_admin: bool
    models: list[str] | None  # None: all
    object: Literal["key"] = "key"


class KeyList(Struct):
    data: list[Key]
    object: Literal["list"] = "list"
