"""The certificate of the configuration: taken as it is used, and refused with the reason."""

import os
import ssl

import pytest
from support.certificates import Pair, encrypt_key, make_dated_pair, make_pair
from support.config_file import OPEN, error_of

from mlxnode.config.certificate import Certificate
from mlxnode.config.file import load_config
from mlxnode.errors import ConfigError


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("other"), "other")


def table(certificate: object, key: object) -> str:
    return f'{OPEN}tls_certificate = "{certificate}"\ntls_key = "{key}"\n'


def read(pair: Pair) -> Certificate:
    return Certificate(pair.certificate.read_bytes(), pair.key.read_bytes())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's end of a handshake in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = client.wrap_bio(back, there, server_hostname="localhost")
    for side in [end, server.wrap_bio(there, back, server_side=True)] * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return end


def trusting(pair: Pair) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(pair.certificate))


def test_certificate_is_read_relative_to_the_file(write, tmp_path):
    made = make_pair(tmp_path)
    file = write(table(made.certificate.name, made.key.name))
    loaded = load_config(file, environ={})
    assert loaded.certificate == read(made)
    assert loaded.files == [file, made.key, made.certificate]
    assert load_config(write(OPEN), environ={}).certificate is None


def test_certificate_never_shows_its_key(pair):
    assert "PRIVATE" not in repr(read(pair))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_serves_http_1_1_over_tls_1_2_and_1_3(pair, version):
    client = trusting(pair)
    client.minimum_version = client.maximum_version = version
    client.set_alpn_protocols(["h2", "http/1.1"])
    end = handshake(read(pair).make_context(), client)
    assert end.version() == version.name.replace("_", ".")
    assert end.selected_alpn_protocol() == "http/1.1"


def test_certificate_refuses_older_versions(pair):
    context = read(pair).make_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_certificate_may_have_a_long_chain(pair, other):
    long = pair.certificate.read_bytes() + other.certificate.read_bytes() * 300
    assert len(long) > 100_000  # more than a pipe holds
    assert Certificate(long, pair.key.read_bytes()).make_context().cert_store_stats()


@pytest.mark.parametrize("given", ["tls_certificate", "tls_key"])
def test_certificate_needs_both_files(write, given):
    error = error_of(write(f'{OPEN}{given} = "x.pem"'))
    assert "set both tls_certificate and tls_key, or neither" in error


def test_certificate_file_that_cannot_be_read(write, pair):
    error = error_of(write(table("none.pem", pair.key)))
    assert 'api.tls_certificate = "none.pem": cannot be read: No such file' in error
    error = error_of(write(table(pair.certificate, "none.key")))
    assert 'api.tls_key = "none.key": cannot be read: No such file' in error


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe\x00", b"-----BEGIN X-----"])
def test_certificate_file_that_is_no_pem(write, pair, tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    error = error_of(write(table("x", pair.key)))
    assert 'api.tls_certificate = "x": expected PEM with BEGIN CERTIFICATE' in error
    error = error_of(write(table(pair.certificate, "x")))
    assert 'api.tls_key = "x": expected PEM with PRIVATE KEY' in error


def test_certificate_of_another_key(write, pair, other):
    error = error_of(write(table(pair.certificate, other.key)))
    assert error.endswith("api.tls_key: the key of another certificate")


def test_certificate_cut_in_the_middle(write, pair, tmp_path):
    for name, file in (("c", pair.certificate), ("k", pair.key)):
        (tmp_path / name).write_bytes(file.read_bytes()[:-60])
    for certificate, key in ((tmp_path / "c", pair.key), (pair.certificate, tmp_path / "k")):
        error = error_of(write(table(certificate, key)))
        assert "api.tls_certificate, api.tls_key: cannot be used" in error
        assert "\n" not in error


def test_certificate_with_an_encrypted_key_asks_no_terminal(write, tmp_path):
    made = make_pair(tmp_path)
    error = error_of(write(table(made.certificate, encrypt_key(made.key))))
    assert "api.tls_key: the key is encrypted" in error and "secret" not in error


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [("200101", "210101", "has expired"), ("480101", "490101", "is not yet valid")],
)
def test_certificate_that_is_not_valid_now(write, tmp_path, start, end, text):
    made = make_dated_pair(tmp_path, start, end)
    error = error_of(write(table(made.certificate, made.key)))
    assert f'api.tls_certificate = "{made.certificate}": certificate {text}' in error


def test_certificate_leaves_no_descriptor_open(pair, other):
    before = len(os.listdir("/dev/fd"))
    for key in (pair.key, other.key):
        for _ in range(20):
            try:
                Certificate(pair.certificate.read_bytes(), key.read_bytes()).make_context()
            except ConfigError:
                assert key is other.key
    assert len(os.listdir("/dev/fd")) == before
