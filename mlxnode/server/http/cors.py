"""Cross-origin requests from browsers: exact origins, never with credentials."""

import re
from collections.abc import Iterable, Mapping

_ALWAYS_ALLOWED = ("authorization", "content-type")
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]{1,64}", re.ASCII)  # a token of RFC 9110
_MAX_NAMES = 64
_EXPOSED = (
    *(
        f"anthropic-ratelimit-{kind}-{fact}"
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
        for fact in ("limit", "remaining", "reset")
    ),
    "openai-processing-ms",
    "openai-version",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "traceparent",
    "x-mlxnode-affinity",
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

    def preflight_headers(self, headers: Mapping[str, str]) -> dict[str, str] | None:
        """The headers of the 204 to a preflight; None if there are no cross-origin rules.

        ``headers`` are those of the preflight. A page of an allowed origin may send any
        header. The answer to an origin that is not allowed has no permissions: the browser
        then refuses the request.
        """
        if not self._origins:
            return None
        if "*" not in self._origins and headers.get("origin") not in self._origins:
            return {}
        permissions = {
            "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
            "access-control-allow-headers": ", ".join(
                _allowed_names(headers.get("access-control-request-headers", ""))
            ),
            "access-control-max-age": str(_MAX_AGE),
        }
        # Chromium asks before a page of the internet reaches a server of a private network.
        if headers.get("access-control-request-private-network") == "true":
            permissions["access-control-allow-private-network"] = "true"
        return permissions


def _allowed_names(requested: str) -> Iterable[str]:
    """The names of headers that a preflight asks for, as far as they are names.

    They are listed one by one: for a browser, ``*`` does not include authorization.
    """
    names = [name.strip().lower() for name in requested.split(",", _MAX_NAMES)[:_MAX_NAMES]]
    valid = [name for name in names if name != "*" and _HEADER_NAME.fullmatch(name)]
    return dict.fromkeys([*_ALWAYS_ALLOWED, *valid])


_EXPOSE = {"access-control-expose-headers": ", ".join(_EXPOSED)}
