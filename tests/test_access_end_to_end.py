"""Keys and the certificate of a real node, replaced while it runs; its admin routes."""

import os
import signal
import ssl
import threading
from pathlib import Path

import httpx2 as httpx
import pytest
from support import tiny
from support.certificates import make_pair
from support.node_process import NodeProcess, is_running

pytestmark = pytest.mark.slow

CONFIG = """
[api]
address = "127.0.0.1:0"
api_key_file = "keys"
admin_key = "sk-admin"
tls_certificate = "node.pem"
tls_key = "node.key"
[api.models.mine]
path = "{path}"
type = "chat"
[server]
workers = 2
[engine]
kernels = "ops"
"""


class Secured:
    """A node with TLS, and the files that say who may enter."""

    def __init__(self, folder: Path, node: NodeProcess):
        self.folder = folder
        self.node = node

    def get(self, path: str, key: str, certificate: str = "node.pem") -> httpx.Response:
        """Over a connection of its own: any worker can answer."""
        context = ssl.create_default_context(cafile=str(self.folder / certificate))
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(f"{self.node.url}{path}", headers=headers, verify=context, timeout=60)

    def wait_until(self, condition) -> None:
        """Until ``condition`` is true ten times in a row: of both workers, most likely."""
        paused, count = threading.Event(), 0
        for _ in range(600):
            count = count + 1 if condition() else 0
            if count == 10:
                return
            if count == 0:
                paused.wait(0.1)
        raise AssertionError("".join(self.node.log))

    def write_keys(self, *keys: str) -> None:
        new = self.folder / "keys.new"
        new.write_text("\n".join(keys))
        new.chmod(0o600)
        new.replace(self.folder / "keys")


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    tiny.make_chat_model(folder / "model")
    make_pair(folder)
    (folder / "keys").write_text("sk-first")
    (folder / "keys").chmod(0o600)
    config = CONFIG.format(path=folder / "model")
    with NodeProcess(folder, config, start_new_session=True) as node:  # without a terminal
        node.wait_ready()
        yield Secured(folder, node)


@pytest.mark.long
def test_node_shows_its_https_url_and_serves_there(secured):
    assert secured.node.url.startswith("https://")
    assert secured.get("/v1/models", "sk-first").status_code == 200
    assert secured.get("/v1/models", "sk-none").status_code == 401


@pytest.mark.long
def test_node_tells_its_figures_to_the_administrator(secured):
    figures = secured.get("/admin/status", "sk-admin").json()
    names = {process["name"] for process in figures["processes"]}
    assert names == {"engine", "worker 0", "worker 1"}
    assert secured.get("/admin/status", "sk-first").status_code == 403
    assert secured.get("/v1/models", "sk-admin").status_code == 403


def test_node_takes_new_keys_and_refuses_old_ones_without_a_restart(secured):
    before = secured.node.worker_pids()
    secured.write_keys("sk-first", "sk-second")
    secured.wait_until(lambda: secured.get("/v1/models", "sk-second").status_code == 200)
    assert secured.get("/v1/models", "sk-first").status_code == 200
    secured.write_keys("sk-second")
    secured.wait_until(lambda: secured.get("/v1/models", "sk-first").status_code == 401)
    secured.write_keys("not a key")
    secured.write_keys("sk-second", "sk-first")
    os.kill(secured.node.process.pid, signal.SIGHUP)
    secured.wait_until(lambda: secured.get("/v1/models", "sk-first").status_code == 200)
    assert secured.node.worker_pids() == before
    assert "sk-" not in "".join(secured.node.log)


@pytest.mark.long
def test_node_gives_new_keys_to_a_worker_that_starts_later(secured):
    secured.write_keys("sk-third")
    secured.wait_until(lambda: secured.get("/v1/models", "sk-third").status_code == 200)
    killed = secured.node.worker_pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    secured.wait_until(
        lambda: len(secured.node.worker_pids()) == 2 and not any(map(is_running, killed))
    )
    assert secured.get("/v1/models", "sk-third").status_code == 200
    assert secured.get("/v1/models", "sk-second").status_code == 401
    secured.write_keys("sk-first")
    secured.wait_until(lambda: secured.get("/v1/models", "sk-first").status_code == 200)


def test_node_shows_a_new_certificate_without_a_restart(secured):
    def shows(certificate: str) -> bool:
        try:
            return secured.get("/v1/models", "sk-first", certificate).status_code == 200
        except httpx.ConnectError:
            return False

    new = secured.folder / "new"
    new.mkdir()
    made = make_pair(new, "node")
    (secured.folder / "old.pem").write_bytes((secured.folder / "node.pem").read_bytes())
    made.certificate.replace(secured.folder / "node.pem")
    made.key.replace(secured.folder / "node.key")
    secured.wait_until(lambda: shows("node.pem"))
    assert not shows("old.pem")
