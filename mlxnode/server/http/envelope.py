"""Errors in the shape that the client of a request knows: OpenAI's or Anthropic's."""

from sanic import HTTPResponse, Request

from mlxnode.server.errors import ApiError
from mlxnode.server.formats.messages.errors import to_envelope
from mlxnode.server.http.body import json_response
from mlxnode.server.http.parameters import HeaderParameter
from mlxnode.server.http.router import canonical

_ANTHROPIC = "/v1/messages"
_VERSION = "anthropic-version"
VERSION_PARAMETER = HeaderParameter(
    _VERSION, "With any version, the answer has the shape of Anthropic's API."
)


def speaks_anthropic(request: Request) -> bool:
    """True for a client of Anthropic's API, whose packages send the header everywhere."""
    path = canonical(request.path)  # as the client typed it, also for a 404
    is_own = path == _ANTHROPIC or path.startswith(f"{_ANTHROPIC}/")
    return is_own or _VERSION in request.headers


def error_response(request: Request, error: ApiError, request_id: str) -> HTTPResponse:
    """The answer to a request that has failed with ``error``."""
    is_anthropic = speaks_anthropic(request)
    envelope = to_envelope(error, request_id) if is_anthropic else error.to_envelope()
    return json_response(envelope, error.status, error.headers)
