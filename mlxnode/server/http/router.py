"""Finds the route of a URL, also where a client's base URL is typed a little differently."""

import re
from typing import Any

from sanic.exceptions import NotFound
from sanic.models.handler_types import RouteHandler
from sanic.router import Router
from sanic_routing.route import Route

# What clients put before the name of an endpoint: nothing, /v1, /v1 and their own /v1, or the
# path of another provider's base URL (OpenRouter's /api/v1, Groq's and Azure's /openai/v1).
# /api alone is Ollama's and belongs to other endpoints, some of the same names.
_BASE = re.compile(r"(?:/(?:api|openai)(?=/v1(?:/|$)))?(?:/v1(?=/|$))*")


class LenientRouter(Router):
    """A router for which all spellings of a URL are the same; a route is registered once."""

    def _get(
        self, path: str, method: str, host: str | None
    ) -> tuple[Route, RouteHandler, dict[str, Any]]:
        tidy, end = _tidy(path), _endpoint(path)
        for spelling in dict.fromkeys([tidy, f"/v1{end}", end or "/"]):
            try:
                return super()._get(spelling, method, host)
            except NotFound:
                continue
        raise NotFound(f"Requested URL {path} not found")


def canonical(path: str) -> str:
    """The path with ``/v1`` at its front once: the same text for all spellings of it."""
    return f"/v1{_endpoint(path)}"


def _endpoint(path: str) -> str:
    """The path behind the base URL: ``/chat/completions``, or nothing."""
    return _BASE.sub("", _tidy(path), count=1).rstrip("/")


def _tidy(path: str) -> str:
    """The path without doubled slashes, and without a slash at its end.

    A model's id with doubled slashes is written with ``%2F``, which stays as it is.
    """
    return "/" + "/".join(part for part in path.split("/") if part)
