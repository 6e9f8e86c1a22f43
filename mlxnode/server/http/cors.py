"""Cross-origin requests from browsers: exact origins, never with credentials."""

import re

_ALWAYS_ALLOWED = ("authorization", "content-type")
_ALLOWED_IF_REQUESTED = (
    "accept",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "user-agent",
    "x-request-id",
)
_EXPOSED = (
    "openai-processing-ms",
    "openai-version",
    "retry-after",
    "retry-after-ms",
    "x-mlxnode-ignored",
    "x-mlxnode-max-tokens",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
)
_MAX_AGE = 600  # seconds; Chromium caps a preflight's life at two hours, Firefox at a day


class Cors:
    """The origins whose pages may read responses. Without origins, no header is sent."""

    def __init__(self, origins: list[str]):
        self._origins = frozenset(origins)

    def headers_for(self, origin: str | None) -> dict[str, str]:
        """The headers of every response to ``origin``, errors and streams included."""
        if not self._origins:
            return {}
        if "*" in self._origins:
            return {"access-control-allow-origin": "*", **_EXPOSE}
        headers = {"vary": "Origin"}  # also if refused: a cache must not mix the two
        if origin in self._origins:
            headers |= {"access-control-allow-origin": origin, **_EXPOSE}
        return headers

    def preflight_headers(self, origin: str | None, requested: str) -> dict[str, str] | None:
        """The headers of the 204 to a preflight; None if there are no cross-origin rules.

        ``requested`` is Access-Control-Request-Headers. The answer to an origin that is not
        allowed has no permissions: the browser then refuses the request.
        """
        if not self._origins:
            return None
        if "*" not in self._origins and origin not in self._origins:
            return {}
        names = [name.strip().lower() for name in requested.split(",")]
        extra = [
            name
            for name in names
            if name in _ALLOWED_IF_REQUESTED or re.fullmatch(r"x-stainless-[a-z0-9-]+", name)
        ]
        return {
            "access-control-allow-methods": "GET, HEAD, POST, OPTIONS",
            # By name: for a browser, "*" does not include authorization.
            "access-control-allow-headers": ", ".join([*_ALWAYS_ALLOWED, *extra]),
            "access-control-max-age": str(_MAX_AGE),
        }


_EXPOSE = {"access-control-expose-headers": ", ".join(_EXPOSED)}
