"""Which Host may reach a node that requires no key."""

import socket
import subprocess

import httpx2 as httpx
import pytest

from mlxnode.server.errors import Forbidden
from mlxnode.server.http import hosts as hosts_module
from mlxnode.server.http.hosts import Hosts, own_names

WAIT = 20.0  # seconds
HOSTS = Hosts(["mini", "mini.local", "llm.example.com", "*.lab.example.org"])
KNOWN = [
    "127.0.0.1",
    "127.0.0.1:8080",
    "192.168.1.7:1",
    "0.0.0.0:8080",
    "127.1",
    "0x7f.1:80",
    "[::1]",
    "[::1]:8080",
    "[fe80::1%25en0]:8080",
    "[fe80::1%en0]",
    "[::ffff:127.0.0.1]:80",
    "localhost",
    "LocalHost:9",
    "localhost.:9",
    "app.localhost:3000",
    "mini",
    "MINI.local.:8080",
    "llm.example.com:443",
    "a.lab.example.org",
    "a.b.lab.example.org:1",
    "host.docker.internal:8080",
    "localhost:",
]
UNKNOWN = [
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io",
    "localhost.evil.example",
    "localhost.evil",
    "evillocalhost",
    "notmini.local",
    "mini.local.evil.example",
    "mini.evil.example",
    "lab.example.org",
    "evillab.example.org",
    "x.llm.example.com",
    "other.docker.internal",
    "localhost@evil.example",
    "localhost:80@evil.example",
    "evil.example:80:127.0.0.1",
    "127.0.0.1 evil.example",
    "127.0.0.1,evil.example",
    "127.0.0.1/evil.example",
    "127.0.0.1#evil.example",
    "[evil.example]",
    "[::1]evil.example",
    "[::1].evil.example:1",
    "::1:8080",
    "dead.beef",
    "1e5.de",
    "256.256.256.256",
    "localhost:http",
    "localhost:\uff18\uff10",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020\u30020\u30021",
    "localhost%00.evil.example",
    "*.lab.example.org.evil.example",
    "a" * 100_000,
]


@pytest.mark.parametrize("host", KNOWN)
def test_hosts_of_this_node_are_known(host):
    HOSTS.check([host], b"/v1/models")
    HOSTS.check(["localhost"], b"http://%s/v1/models" % host.encode())


@pytest.mark.parametrize("host", UNKNOWN)
def test_other_hosts_are_refused_by_name(host):
    with pytest.raises(Forbidden) as refused:
        HOSTS.check([host], b"/v1/models")
    assert "allowed_hosts" in refused.value.message
    assert len(refused.value.message) < 600
    assert refused.value.code == "unknown_host"
    with pytest.raises(Forbidden):
        HOSTS.check(["localhost", host], b"/v1/models")


@pytest.mark.parametrize("url", [b"http://evil.example/v1/models", b"HTTPS://evil.example"])
def test_an_absolute_url_names_a_host_as_well(url):
    with pytest.raises(Forbidden, match=r"evil\.example"):
        HOSTS.check(["localhost"], url)


def test_a_request_without_any_host_is_from_no_browser():
    HOSTS.check([], b"/v1/models")


def test_own_names_are_those_of_the_machine(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Mini.lan")
    monkeypatch.setattr(hosts_module.shutil, "which", lambda _: None)
    assert own_names() == {"mini.lan", "mini", "mini.local"}


def test_own_names_of_a_mac_have_the_one_of_bonjour(monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout="Annas-MacBook-Pro\n")
    monkeypatch.setattr(socket, "gethostname", lambda: "mac.fritz.box")
    monkeypatch.setattr(hosts_module.shutil, "which", lambda _: "/usr/sbin/scutil")
    monkeypatch.setattr(hosts_module.subprocess, "run", lambda *_, **__: done)
    assert own_names() >= {"mac.fritz.box", "annas-macbook-pro", "annas-macbook-pro.local"}


def test_own_names_survive_a_machine_that_does_not_tell(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("scutil", 1)

    monkeypatch.setattr(socket, "gethostname", lambda: "")
    monkeypatch.setattr(hosts_module.shutil, "which", lambda _: "/usr/sbin/scutil")
    monkeypatch.setattr(hosts_module.subprocess, "run", fail)
    assert own_names() == set()


# --- a worker -----------------------------------------------------------------------

ASKED = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/v1/models"),
    ("GET", "/nothing"),
    ("POST", "/v1/chat/completions"),
    ("OPTIONS", "/v1/models"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_a_worker_without_keys_refuses_names_of_others(plain_worker, method, path):
    headers = {"host": f"evil.example:{plain_worker.port}"}
    body = b"{}" if method == "POST" else None
    answer = httpx.request(method, plain_worker.url + path, headers=headers, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "unknown_host")


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:99", "[::1]", "a.localhost"])
def test_a_worker_without_keys_serves_its_own_names(plain_worker, host):
    names = [host, socket.gethostname(), f"{socket.gethostname().partition('.')[0]}.local:8080"]
    for name in names:
        answer = httpx.get(f"{plain_worker.url}/v1/models", headers={"host": name})
        assert answer.status_code == 200, name


def test_a_worker_with_keys_serves_any_host(worker):
    headers = {**worker.headers, "host": "llm.example.net"}
    assert httpx.get(f"{worker.url}/v1/models", headers=headers).status_code == 200


def test_a_key_that_is_not_required_proves_who_asks(plain_worker):
    """A page of the internet has no key; a proxy with a name of its own may have one."""
    headers = {**plain_worker.headers, "host": "llm.example.net"}
    assert httpx.get(f"{plain_worker.url}/v1/models", headers=headers).status_code == 200
    headers["authorization"] = "Bearer sk-wrong"
    assert httpx.get(f"{plain_worker.url}/v1/models", headers=headers).status_code == 403
