"""Where a node answers, the key for it, and whom to trust."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mlxnode.config.file import LoadedConfig, parse_address
from mlxnode.config.keys import readable_keys
from mlxnode.errors import ConfigError

_KEY_VARIABLE = "MLXNODE_API_KEY"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # an address to listen on -> one to connect to
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class Endpoint:
    """The address of a node.

    ``url`` is without ``/v1``. ``key`` is None if none is known. ``certificate`` is the file of
    the node's own certificate, which is trusted whatever its name. ``is_named``: the command
    line names this node, so no other one can take its place.
    """

    url: str
    key: str | None = None
    certificate: Path | None = None
    is_named: bool = False

    @property
    def is_local(self) -> bool:
        """True if the node is on this machine, which no proxy reaches."""
        return (urlsplit(self.url).hostname or "").startswith(_LOOPBACK)

    def verification(self) -> ssl.SSLContext | bool:
        """What checks the certificate of the node.

        Of the configured file, only the first certificate counts: that is the node's, and no
        other has its private key. So its names need not include the address.

        Raises:
            ConfigError: the file holds no certificate.
        """
        if self.certificate is None:
            return True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        try:
            pem = self.certificate.read_text(encoding="ascii")
            begin, end = pem.index(_BEGIN), pem.index(_END) + len(_END)
            context.load_verify_locations(cadata=pem[begin:end])
        except (OSError, ValueError, ssl.SSLError) as error:
            raise ConfigError(
                f'api.tls_certificate = "{self.certificate}": cannot be read'
            ) from error
        return context


def endpoint_of_url(url: str, key: str | None, environ: Mapping[str, str]) -> Endpoint:
    """The node, or another server, at a URL with or without ``/v1``.

    The keys of a configuration are not sent there, only ``key`` or ``$MLXNODE_API_KEY``.

    Raises:
        ConfigError: it is no URL.
    """
    try:
        parts = urlsplit(url.strip())
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_url = is_url and not (parts.query or parts.fragment or parts.username)
        _ = parts.port  # raises if it is no number
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(f"--url {url}: expected a URL as http://127.0.0.1:8080")
    base = url.strip().rstrip("/").removesuffix("/v1")
    return Endpoint(base, key or environ.get(_KEY_VARIABLE) or None, is_named=True)


def endpoint_of_config(
    loaded: LoadedConfig,
    environ: Mapping[str, str],
    *,
    address: str | None = None,
    key: str | None = None,
) -> Endpoint:
    """The node of a configuration, which may listen on another ``address``.

    The keys of the configuration are sent only to an address of this machine, or to the
    configured one.

    Raises:
        ConfigError: the address has another notation.
    """
    host, port = (loaded.host, loaded.port) if address is None else parse_address(address)
    host = _ANY.get(host, host)
    scheme = "http" if loaded.config.api.tls_certificate is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    certificate = loaded.config.api.tls_certificate
    own = Endpoint(
        url,
        key or environ.get(_KEY_VARIABLE) or None,
        None if certificate is None else loaded.folder / Path(certificate).expanduser(),
        is_named=address is not None,
    )
    if own.key is None and (own.is_local or host == loaded.host):
        found = list(readable_keys(loaded.config.api, loaded.folder, environ))
        best = min(found, key=lambda secret: secret.models is not None, default=None)
        return replace(own, key=None if best is None else best.key)
    return own
