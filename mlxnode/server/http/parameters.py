"""The headers that a request may have, as the OpenAPI document has them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HeaderParameter:
    """An optional header of a request."""

    name: str
    description: str

    @property
    def described(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "in": "header",
            "description": self.description,
            "schema": {"type": "string"},
        }
