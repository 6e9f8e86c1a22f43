"""Cross-origin requests from browsers: exact origins, never with credentials."""

import re

_ALWAYS_ALLOWED = ("authorization", "content-type")
_ALLOWED_IF_ASKED = (
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
    """Which origins may read our answers. Without origins, none, and no header is sent."""

    def __init__(self, origins: list[str]):
        self._origins = frozenset(origins)

    def headers_for(self, origin: str | None) -> dict[str, str]:
        """What every response to ``origin`` carries, errors and streams too."""
        if not self._origins:
            return {}
        if "*" in self._origins:
            return {"access-control-allow-origin": "*", **_EXPOSE}
        headers = {"vary": "Origin"}  # also when refused: a cache must tell the two apart
        if origin in self._origins:
            headers |= {"access-control-allow-origin": origin, **_EXPOSE}
        return headers

    def preflight_headers(self, origin: str | None, asked: str) -> dict[str, str] | None:
        """What the 204 to a preflight adds, None if there are no cross-origin rules.

        ``asked`` is Access-Control-Request-Headers. An origin that is not allowed gets an
        answer without permissions, which makes the browser refuse.
        """
        if not self._origins:
            return None
        if "*" not in self._origins and origin not in self._origins:
            return {}
        names = [name.strip().lower() for name in asked.split(",")]
        extra = [
            name
            for name in names
            if name in _ALLOWED_IF_ASKED or re.fullmatch(r"x-stainless-[a-z0-9-]+", name)
        ]
        return {
            "access-control-allow-methods": "GET, HEAD, POST, OPTIONS",
            # By name: a browser does not take "*" to include authorization.
            "access-control-allow-headers": ", ".join([*_ALWAYS_ALLOWED, *extra]),
            "access-control-max-age": str(_MAX_AGE),
        }


_EXPOSE = {"access-control-expose-headers": ", ".join(_EXPOSED)}
