"""The parameters of a request beside its path and body, as the OpenAPI document has them."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec


@dataclass(frozen=True)
class Parameter:
    """An optional parameter. ``type`` is what msgspec makes its JSON schema of."""

    name: str
    place: Literal["query", "header"]
    description: str
    type: Any = str

    @property
    def described(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "in": self.place,
            "description": self.description,
            "schema": msgspec.json.schema(self.type),
        }
