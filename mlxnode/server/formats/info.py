"""The response bodies of ``/health`` and ``/``."""

from typing import Literal

from msgspec import Struct


class Health(Struct):
    status: Literal["ok"]
    engine: Literal["ok"]
    failed_models: list[str]  # configured, but not served; /v1/models has the reasons


class Root(Struct):
    key_required: bool  # False: requests need no API key
    has_admin_key: (
        bool  # False: the node has no admin key, and the URLs of the admin do not exist
    )
    name: Literal["mlxnode"] = "mlxnode"
    documentation: str = "/openapi.json"
