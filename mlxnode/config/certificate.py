"""The certificate of the node and its private key, for TLS."""

import contextlib
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlxnode.config.tables import ApiConfig
from mlxnode.errors import ConfigError

_CERTIFICATE, _KEY = "api.tls_certificate", "api.tls_key"
_ROUND_TRIPS = 3  # of a handshake, and to spare
_OF_DATES = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
# OpenSSL's names for a key of another certificate.
_OTHER_KEY = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain, and its private key, both in PEM.

    The processes hand the bytes on, not the names of the files: a worker that starts while the
    files are being replaced has the pair that was checked.
    """

    chain: bytes
    key: bytes = field(repr=False)

    def make_context(self) -> ssl.SSLContext:
        """The settings of TLS for a server: version 1.2 or 1.3, HTTP/1.1.

        Raises:
            ConfigError: OpenSSL does not take the pair.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        with _as_file(self.chain) as chain, _as_file(self.key) as key:
            _load_pair(context, chain, key)
        return context


def load_certificate(api: ApiConfig, folder: Path) -> Certificate | None:
    """The certificate of ``[api]``, checked; None: the node does not speak TLS.

    Relative paths are relative to ``folder``.

    Raises:
        ConfigError: a file is unreadable, the two do not belong together, or the certificate
            is not valid now.
    """
    if api.tls_certificate is None or api.tls_key is None:
        return None
    chain = _read(_CERTIFICATE, api.tls_certificate, folder, b"-----BEGIN CERTIFICATE-----")
    key = _read(_KEY, api.tls_key, folder, b"PRIVATE KEY-----")
    # From the files themselves first: of a pipe, Python tells no reason.
    files = (folder / Path(name).expanduser() for name in (api.tls_certificate, api.tls_key))
    _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *map(str, files))
    certificate = Certificate(chain, key)
    if (problem := _problem_of_dates(certificate)) is not None:
        raise ConfigError(f'{_CERTIFICATE} = "{api.tls_certificate}": {problem}')
    return certificate


def _load_pair(context: ssl.SSLContext, chain: str, key: str) -> None:
    """Raises ConfigError if OpenSSL does not take the pair of files."""
    try:
        context.load_cert_chain(chain, key, password=_refuse_password)
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None)
        if reason in _OTHER_KEY:
            raise ConfigError(f"{_KEY}: the key of another certificate") from error
        text = (reason or "unreadable PEM").lower().replace("_", " ")
        raise ConfigError(f"{_CERTIFICATE}, {_KEY}: cannot be used: {text}") from error


def names_of(certificate: Certificate) -> list[str]:
    """The names and addresses that the certificate is for."""
    with contextlib.suppress(ssl.SSLError):
        found = (_shake_hands(certificate).getpeercert() or {}).get("subjectAltName", ())
        return [str(entry[1]) for entry in found if entry[0] in ("DNS", "IP Address")]
    return []


def _problem_of_dates(certificate: Certificate) -> str | None:
    """Why the certificate is not valid now, in words.

    Python reads no dates from a file. A handshake of the certificate with a client that trusts
    it has OpenSSL compare them.
    """
    try:
        _shake_hands(certificate)
    except ssl.SSLCertVerificationError as error:
        # Whether a client trusts the certificate is not ours to say.
        return error.verify_message if error.verify_code in _OF_DATES else None
    return None


def _shake_hands(certificate: Certificate) -> ssl.SSLObject:
    """The client's end of a connection in memory, which trusts the certificate.

    Raises:
        ssl.SSLError: it does not, all the same.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=certificate.chain.decode("ascii", "ignore"))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(back, there),
        certificate.make_context().wrap_bio(there, back, server_side=True),
    ]
    for end in ends * _ROUND_TRIPS:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[0]


def _read(source: str, name: str, folder: Path, mark: bytes) -> bytes:
    try:
        data = (folder / Path(name).expanduser()).read_bytes()
    except OSError as error:
        raise ConfigError(f'{source} = "{name}": cannot be read: {error.strerror}') from error
    if mark not in data:
        raise ConfigError(f'{source} = "{name}": expected PEM with {mark.decode().strip("-")}')
    return data


def _refuse_password() -> str:
    # Without this, OpenSSL asks the terminal, and a service would wait for ever.
    raise ConfigError(f"{_KEY}: the key is encrypted; a key without a password is needed")


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """The name of a pipe with ``data``: OpenSSL takes files only; keys stay off the disk."""
    reader, writer = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writer, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=write, name="pem", daemon=True)
    thread.start()
    try:
        yield f"/dev/fd/{reader}"
    finally:
        os.close(reader)
        thread.join()
