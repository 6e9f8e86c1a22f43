"""The configuration, the models and the address: right, wrong and in use."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support import tiny

from mlxnode.doctor import node

KEY = "sk-a-very-secret-key"
CONFIG = """
[api]
address = "127.0.0.1:{port}"
api_key = "{key}"
[api.models.{id}]
path = "{path}"
type = "chat"
"""


def write(folder: Path, path: object, port: int = 0, id: str = "tiny") -> Path:
    file = folder / "config.toml"
    file.write_text(CONFIG.format(port=port, key=KEY, id=id, path=path))
    return file


def statuses(file: Path) -> dict[str, str]:
    section, _ = node.check_node(file)
    assert KEY not in str(section)
    return {finding.name: finding.status for finding in section.findings}


def test_node_that_can_be_served(tmp_path):
    folder = tiny.make_chat_model(tmp_path / "tiny")
    file = write(tmp_path, folder)
    assert statuses(file) == {"configuration": "ok", "model tiny": "ok", "address": "ok"}
    _, loaded = node.check_node(file)
    assert node.weights_on_disk(loaded) == (folder / "model.safetensors").stat().st_size


def test_node_with_a_wrong_configuration(tmp_path):
    file = write(tmp_path, "x")
    file.write_text(file.read_text() + "colour = 1\n")
    section, loaded = node.check_node(file)
    assert loaded is None
    [found] = section.findings
    assert found.status == "fail" and "colour" in found.text


def test_node_without_models(tmp_path):
    file = tmp_path / "config.toml"
    api = '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false\n'
    file.write_text(f"{api}[server.discovery]\nenabled = false\n")
    assert statuses(file)["models"] == "fail"


def test_node_with_models_that_are_missing_or_broken(tmp_path):
    assert statuses(write(tmp_path, "nobody/no-such-model"))["model tiny"] == "warn"
    broken = tiny.make_chat_model(tmp_path / "broken")
    (broken / "config.json").write_text("{}")
    file = write(tmp_path, broken)
    assert statuses(file)["model tiny"] == "fail"
    _, loaded = node.check_node(file)
    assert node.weights_on_disk(loaded) > 0  # of a file that is there all the same


@pytest.mark.parametrize(
    ("weights", "total", "status"),
    [(0, 8, "ok"), (7, 8, "ok"), (7.5, 8, "warn"), (8, 8, "warn"), (8.1, 8, "fail")],
)
def test_memory_for_the_weights(weights, total, status):
    assert node.memory(int(weights * 1e9), int(total * 1e9)).status == status


@contextlib.contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A server that answers every request with ``body``; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_address_with_a_node():
    with answering(b'{"status": "ok", "engine": "ok"}') as port:
        found = node.address("127.0.0.1", port)
    assert found.status == "ok" and "a node serves" in found.text


@pytest.mark.parametrize("body", [b"<html>", b'{"status": "ok"}', b"[1]", b""])
def test_address_with_another_program(body):
    with answering(body) as port:
        found = node.address("0.0.0.0", port)
    assert found.status == "fail" and f"0.0.0.0:{port}" in found.text


def test_address_with_a_program_that_says_nothing(monkeypatch):
    monkeypatch.setattr(node, "_TIMEOUT", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert node.address("127.0.0.1", listener.getsockname()[1]).status == "fail"


def test_address_that_is_free():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # bound, and nobody listens
        assert node.address("127.0.0.1", port).status == "ok"
    assert node.address("127.0.0.1", 0).status == "ok"


def test_address_names_its_holder(monkeypatch):
    outputs = {"-Fpc": "p123\ncpython3.13\nf5"}
    monkeypatch.setattr(node, "output_of", lambda *command: outputs[command[-1]])
    with answering(b"") as port:
        assert node.address("127.0.0.1", port).text.endswith("(python3.13, pid 123)")


def test_address_of_no_machine():
    assert node.address("no-such-host.invalid", 80).status == "warn"
