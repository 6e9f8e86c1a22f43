"""Certificates for 127.0.0.1 and localhost, made by the system's OpenSSL or LibreSSL."""

import subprocess
from pathlib import Path
from typing import NamedTuple

_CA = """
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
serial = serial
default_md = sha256
policy = policy
[policy]
commonName = supplied
"""


class Pair(NamedTuple):
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path


def make_pair(
    folder: Path, name: str = "node", names: str = "DNS:localhost, IP:127.0.0.1"
) -> Pair:
    """A certificate that has signed itself, valid for two days."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    settings = folder / f"{name}.cnf"
    settings.write_text(
        "[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n"
        f"[dn]\ncommonName = {name}\n"
        f"[ext]\nsubjectAltName = {names}\n"
    )
    _make_key(pair.key)
    _openssl(
        *("req", "-x509", "-config", settings, "-key", pair.key),
        *("-days", "2", "-out", pair.certificate),
    )
    return pair


def make_dated_pair(folder: Path, start: str, end: str) -> Pair:
    """A certificate that is valid between two days, as ``YYMMDD``."""
    pair = Pair(folder / "dated.pem", folder / "dated.key")
    _make_key(pair.key)
    (folder / "ca.cnf").write_text(_CA)
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    request = folder / "dated.csr"
    settings = folder / "dated.cnf"
    settings.write_text(
        "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\ncommonName = dated\n"
    )
    _openssl("req", "-new", "-config", settings, "-key", pair.key, "-out", request)
    _openssl(
        *("ca", "-batch", "-notext", "-selfsign", "-config", "ca.cnf", "-in", request.name),
        *("-keyfile", pair.key, "-out", pair.certificate),
        *("-startdate", f"{start}000000Z", "-enddate", f"{end}000000Z"),
        folder=folder,
    )
    return pair


def encrypt_key(key: Path) -> Path:
    """The same key, with a password."""
    encrypted = key.with_suffix(".encrypted")
    _openssl("ec", "-in", key, "-aes256", "-passout", "pass:secret", "-out", encrypted)
    return encrypted


def _make_key(file: Path) -> None:
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", file)
    file.chmod(0o600)


def _openssl(*arguments: str | Path, folder: Path | None = None) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
