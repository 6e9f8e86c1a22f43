"""What all tables of the configuration file have in common."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A TOML table. Unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
