"""API keys: which clients may send requests."""

import hmac
from collections.abc import Mapping

from mlxnode.config.keys import ApiKey, digest_of
from mlxnode.server.errors import Forbidden, Unauthorized

ANONYMOUS = ApiKey("anonymous", b"")
_WRONG_KIND = "wrong_kind_of_key"


class Keyring:
    """The accepted keys. Those of administrators are for their routes, and for no other."""

    def __init__(self, keys: list[ApiKey], *, required: bool):
        self.keys = keys
        self._required = required

    @property
    def has_admin(self) -> bool:
        """True if anybody can use the routes of the administrator."""
        return any(key.is_admin for key in self.keys)

    def replace(self, keys: list[ApiKey]) -> None:
        """Accept ``keys`` from now on, and no other."""
        self.keys = keys

    @property
    def is_open(self) -> bool:
        """True if whoever can connect is the administrator: nobody needs a key of any kind."""
        return not self._required and not self.has_admin

    def authenticate(self, sent: list[str], *, for_admin: bool | None = False) -> ApiKey:
        """The first accepted key among those that were ``sent``; ANONYMOUS without one.

        ``for_admin``: the route is one of the administrator's, where a key is always required.
        None: the route takes keys of both kinds, and shows each what it may see.

        Raises:
            Unauthorized: no accepted key was sent, and a key is required.
            Forbidden: the key is for other routes.
        """
        digests = [digest_of(key) for key in sent]
        # All keys are compared, so that the time does not depend on the key.
        matches = [
            known
            for digest in digests
            for known in self.keys
            if hmac.compare_digest(digest, known.digest)
        ]
        fitting = [key for key in matches if for_admin in (None, key.is_admin)]
        if fitting:
            return fitting[0]
        if not (self._required or for_admin):
            return ANONYMOUS
        if matches and for_admin:
            raise Forbidden("This URL needs an admin key ([api] admin_key).", code=_WRONG_KIND)
        if matches:
            raise Forbidden(
                "An admin key is for URLs below /admin, to load and unload models, and to "
                "watch the node: use an API key here.",
                code=_WRONG_KIND,
            )
        raise _unauthorized(sent)


def _unauthorized(sent: list[str]) -> Unauthorized:
    if not sent:
        return Unauthorized(
            "You didn't provide an API key. Send it in the header "
            "'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'."
        )
    message = f"Incorrect API key provided: {_mask(sent[0])}."
    return Unauthorized(message, code="invalid_api_key")


def sent_keys(headers: Mapping[str, str]) -> list[str]:
    """The keys that a request sends, in the order in which they are tried.

    OpenAI's clients send ``Authorization: Bearer KEY``, Anthropic's ``x-api-key`` and Azure's
    ``api-key``. Clients with a key for a proxy send several; a field for headers of one's own
    often holds the key without a scheme.
    """
    authorization = headers.get("authorization", "").strip()
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() == "bearer":
        authorization = key.strip()
    sent = [authorization, headers.get("x-api-key", ""), headers.get("api-key", "")]
    # A key has no spaces: another scheme (Basic) is no key.
    return [key for key in map(str.strip, sent) if key and " " not in key]


def _mask(key: str) -> str:
    """The first three and the last four characters of a key, to recognise the key."""
    if len(key) < 16:
        return "*" * len(key)
    shown = f"{key[:3]}{'*' * 8}{key[-4:]}"
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in shown)
