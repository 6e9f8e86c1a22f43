"""Errors in Anthropic's envelope."""

from msgspec import UNSET, Struct, UnsetType

from mlxnode.server.errors import ApiError, ModelFailed

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class MessagesErrorDetails(Struct):
    """What this server's other formats call ``code`` and ``param``."""

    error_code: str
    param: str | None


class MessagesError(Struct):
    type: str
    message: str
    details: MessagesErrorDetails | UnsetType = UNSET


class MessagesErrorEnvelope(Struct, tag_field="type", tag="error"):
    error: MessagesError
    request_id: str


def to_envelope(error: ApiError, request_id: str) -> MessagesErrorEnvelope:
    """``error`` as the answer to the request ``request_id``, or as the last event of it."""
    message = error.message
    if error.code == "context_length_exceeded":
        # Claude Code makes its conversation shorter when it reads these words.
        message = f"prompt is too long: {message}"
    written = MessagesError(_type_of(error), message)
    if error.code is not None:
        written.details = MessagesErrorDetails(error.code, error.param)
    return MessagesErrorEnvelope(written, request_id)


def _type_of(error: ApiError) -> str:
    if isinstance(error, ModelFailed):
        return "api_error"  # an overload would pass
    default = "api_error" if error.status >= 500 else "invalid_request_error"
    return _TYPES.get(error.status, default)
