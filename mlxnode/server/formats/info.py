"""The response bodies of ``/health`` and ``/``."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from mlxnode.server.errors import ErrorBody


class RankHealth(Struct):
    """One rank of an engine on several machines; ``reason``: why it is or was lost."""

    rank: int
    host: str
    state: Literal["starting", "ready", "lost"]
    reason: str = ""


class Health(Struct):
    status: Literal["ok"]
    engine: Literal["ok"]
    failed_models: list[str]  # configured, but not served; /v1/models has the reasons
    ranks: list[RankHealth] | UnsetType = UNSET  # only of an engine on several machines


class Unhealthy(Struct):
    """As every error, with the ranks of an engine on several machines."""

    error: ErrorBody
    ranks: list[RankHealth]


class Root(Struct):
    key_required: bool  # False: requests need no API key
    has_admin_key: (
        bool  # False: the node has no admin key, and the URLs of the admin do not exist
    )
    name: Literal["mlxnode"] = "mlxnode"
    documentation: str = "/openapi.json"
