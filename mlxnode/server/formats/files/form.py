"""The form that uploads a file: its fields beside the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mlxnode.server.errors import InvalidRequest

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")
MIN_SECONDS, MAX_SECONDS = 3600, 2_592_000  # until a file expires; an hour, and 30 days
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
FIELDS = ("purpose", ANCHOR, SECONDS)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"enum": list(PURPOSES)},
        ANCHOR: {"const": "created_at"},
        SECONDS: {"type": "integer", "minimum": MIN_SECONDS, "maximum": MAX_SECONDS},
    },
    "dependentRequired": {ANCHOR: [SECONDS], SECONDS: [ANCHOR]},
}


@dataclass(frozen=True)
class FileForm:
    """``seconds`` is the time until the file expires; None: the node's own."""

    schema: ClassVar = SCHEMA
    purpose: str
    seconds: int | None


def read_form(fields: Mapping[str, str]) -> FileForm:
    """The fields of a form.

    Raises:
        InvalidRequest: naming the field.
    """
    purpose = fields.get("purpose")
    if purpose is None:
        raise InvalidRequest(
            "Missing required parameter: 'purpose'.",
            param="purpose",
            code="missing_required_parameter",
        )
    if purpose not in PURPOSES:
        raise _invalid("purpose", f"'{purpose}' is not one of {', '.join(PURPOSES)}")
    return FileForm(purpose, _seconds(fields.get(ANCHOR), fields.get(SECONDS)))


def _seconds(anchor: str | None, seconds: str | None) -> int | None:
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise _invalid(ANCHOR, "must be 'created_at', which has to be sent with the seconds")
    is_number = seconds is not None and seconds.isascii() and seconds.isdigit()
    if seconds is None or not is_number or len(seconds) > len(str(MAX_SECONDS)):
        raise _invalid(SECONDS, f"must be an integer, {MIN_SECONDS} to {MAX_SECONDS}")
    if not MIN_SECONDS <= int(seconds) <= MAX_SECONDS:
        raise _invalid(SECONDS, f"must be {MIN_SECONDS} to {MAX_SECONDS}, got {seconds}")
    return int(seconds)


def _invalid(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{name}': {reason}.", param=name, code="invalid_value")
