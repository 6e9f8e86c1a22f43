"""nginx and Caddy in front of two nodes, with the configurations of docs/replicas."""

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2 as httpx
from support.certificates import make_pair
from support.tools import require_program

# Where `make test-clients` unpacks the packages if they are not installed.
_UNPACKED = Path(__file__).parents[2] / "build" / "balancers" / "usr"
FOLDER = Path(__file__).parents[2] / "docs" / "replicas"
WAIT = 30.0  # seconds; only a failing test waits that long
# What Debian's nginx.conf has around conf.d, without its paths.
_NGINX = """
daemon off;
worker_processes 2;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{text}
}}
"""
_CADDY = "{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{text}"
_STICKY = {
    "nginx": "    hash $mlxnode_affinity",
    "caddy": "lb_policy header X-Mlxnode-Affinity",
}
_TURNS = {"nginx": "", "caddy": "lb_policy round_robin"}  # in the place of _STICKY


class Balancer:
    """A balancer on a free port of this machine, with TLS, until the end of the block.

    ``sticky`` False: the nodes in turns.
    """

    def __init__(
        self, name: str, folder: Path, nodes: Sequence[str], *, sticky: bool = True
    ) -> None:
        """``nodes`` are addresses, in the place of those of the documents."""
        folder.mkdir(exist_ok=True)
        pair = make_pair(folder)
        self.context = ssl.create_default_context(cafile=str(pair.certificate))
        port = _free_port()
        self.url = f"https://127.0.0.1:{port}"
        file = "nginx.conf" if name == "nginx" else "Caddyfile"
        text = (FOLDER / file).read_text()
        for number, address in enumerate(nodes):
            text = text.replace(f"192.168.1.{11 + number}:8080", address)
        assert "192.168" not in text
        if not sticky:
            text = re.sub(rf"{re.escape(_STICKY[name])}.*", _TURNS[name], text)
        if name == "nginx":
            text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
            text = text.replace("/etc/ssl/fullchain.pem", str(pair.certificate))
            text = text.replace("/etc/ssl/privkey.pem", str(pair.key))
            text = _NGINX.format(folder=folder, text=text)
        else:
            site = f"{self.url} {{\n\ttls {pair.certificate} {pair.key}"
            text = _CADDY.format(text=text.replace("llm.example.com {", site))
        (folder / file).write_text(text)
        options = {
            "nginx": ["-p", folder, "-e", folder / "log", "-c", folder / file],
            "caddy": ["run", "--adapter", "caddyfile", "--config", folder / file],
        }
        with (folder / "output").open("w") as output:
            self._process = subprocess.Popen(
                [_program(name), *map(str, options[name])],
                stdout=output,
                stderr=output,
                env={"HOME": str(folder)},
            )
        self._port = port
        self._folder = folder

    def __enter__(self) -> "Balancer":
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def client(self, key: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=100)
        return httpx.Client(
            base_url=self.url, headers=headers, verify=self.context, limits=limits, timeout=WAIT
        )

    def output(self) -> str:
        """What the program has said."""
        files = [self._folder / "output", self._folder / "log"]
        return "\n".join(file.read_text() for file in files if file.exists())

    def _wait_until_it_listens(self) -> None:
        end = time.monotonic() + WAIT
        while True:
            assert self._process.poll() is None, self.output()
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                assert time.monotonic() < end, self.output()
                time.sleep(0.02)  # neither program tells when it listens
            else:
                return


def _program(name: str) -> str:
    found = [path for path in _UNPACKED.glob(f"*/{name}") if os.access(path, os.X_OK)]
    return str(found[0]) if found else require_program(name)


def _free_port() -> int:
    """A port for a program that cannot tell which one the system has chosen."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
