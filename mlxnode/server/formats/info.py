"""The response bodies of ``/health`` and ``/``."""

from typing import Literal

from msgspec import Struct


class Health(Struct):
    status: Literal["ok"]
    engine: Literal["ok"]
    failed_models: list[str]  # configured, but not served; /v1/models has the reasons


class Root(Struct):
    name: Literal["mlxnode"] = "mlxnode"
    documentation: str = "/openapi.json"
