"""What ``/admin/keys`` and ``/admin/usage`` take and answer."""

import datetime
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct, field


class Key(Struct):
    """An accepted key, without the key itself."""

    id: str
    is_admin: bool
    models: list[str] | None  # None: all
    object: Literal["key"] = "key"


class KeyList(Struct):
    data: list[Key]
    object: Literal["list"] = "list"


class UsageQuery(Struct):
    """Which usage is asked for: the last 30 days (UTC), of all keys and models, if no other."""

    to: datetime.date | None = None
    first: datetime.date | None = field(name="from", default=None)
    key: str | None = None
    model: str | None = None
    by: Literal["day", "key", "model"] | None = None  # None: for each day, key and model

    @property
    def days(self) -> tuple[str, str]:
        """The first and the last day, as 2026-01-31."""
        last = self.to or datetime.datetime.now(datetime.UTC).date()
        first = self.first or last - datetime.timedelta(days=29)
        return first.isoformat(), last.isoformat()


class UsageList(Struct):
    """Rows as ``mlxnode usage --json`` prints them."""

    data: Sequence[Struct]
    object: Literal["list"] = "list"
