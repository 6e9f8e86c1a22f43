"""The node of the examples: the models, keys and files that the documents name.

What is replaced in a code block before it runs is in ``SUBSTITUTIONS``, and nothing else is.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import certificates, tiny
from support.node_process import NodeProcess

KEY = "sk-your-secret-key"
ADDRESS = "127.0.0.1:8080"
# Documented id -> kind of the tiny model that stands for it.
MODELS = {
    "my-chat-model": "chat",
    "my-completion-model": "completion",
    "my-embedding-model": "embedding",
    "my-reranker": "rerank",
    "smollm2-135m-instruct": "chat",
    "all-minilm-l6-v2": "embedding",
}
# A pattern in the documents -> what the variable of this name holds for the running node.
SUBSTITUTIONS = {re.escape(ADDRESS): "address"}
_CONFIG = f"""
[api]
address = "ADDRESS"
api_key = "{KEY}"
admin_key = "sk-admin"
max_requests_per_minute = 60000
max_tokens_per_minute = 60000000
[api.keys.alice]
key = "sk-alice"
[server]
workers = 1
response_store = 10
"""


def make_models(folder: Path, context: int = 2048) -> dict[str, Path]:
    """One tiny model of each kind of ``MODELS``."""
    chat = tiny.make_chat_model(folder / "chat", context=context, template=tiny.TOOL_TEMPLATE)
    return {
        "chat": chat,
        "completion": chat,
        "embedding": tiny.make_embedding_model(folder / "embedding"),
        "rerank": tiny.make_cross_encoder(folder / "rerank"),
    }


def make_secrets(folder: Path) -> None:
    """The files with keys and certificates that the documents name."""
    for name in ("alice.key", "keys.txt", "admin.key"):
        (folder / name).write_text(f"sk-of-{name}-0123456789\n")
    pair = certificates.make_pair(folder)
    pair.certificate.rename(folder / "fullchain.pem")
    pair.key.rename(folder / "privkey.pem")
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o600)


@dataclass(frozen=True)
class Examples:
    """A node that runs, with its configuration file and its cache folder."""

    url: str
    config: Path
    cache: Path

    @property
    def address(self) -> str:
        return self.url.partition("://")[2]

    def substituted(self, text: str) -> str:
        for pattern, name in SUBSTITUTIONS.items():
            text = re.sub(pattern, getattr(self, name), text)
        return text

    def environment(self, home: Path) -> dict[str, str]:
        """The variables of a user whose home is ``home`` and whose node is this one."""
        kept = ("PATH", "LANG", "TMPDIR", "PYTHONPATH")
        return {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(home),
            "MLXNODE_CONFIG": str(self.config),
            "MLXNODE_CACHE": str(self.cache),
            "MLXNODE_STATE": str(self.config.parent / "state"),
            "MLXNODE_API_KEY": KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        }


@contextlib.contextmanager
def running_examples(folder: Path) -> Iterator[Examples]:
    """Start the node in ``folder``; the end of the block ends it."""
    folders = make_models(folder / "models")
    greedy = "default_temperature = 0.0\n"  # so that each run gives the same
    tables = [
        f'[api.models.{id}]\npath = "{folders[kind]}"\ntype = "{kind}"\n'
        f"{greedy if kind in ('chat', 'completion') else ''}"
        for id, kind in MODELS.items()
    ]
    text = _CONFIG + "".join(tables)
    cache = folder / "cache"
    environment = os.environ | {"MLXNODE_CACHE": str(cache)}
    first = text.replace("ADDRESS", "127.0.0.1:0")
    with NodeProcess(folder, first, env=environment) as node:
        node.wait_ready()
        url = node.url.removesuffix("/v1")
        # Commands read the address of the node from a file.
        config = folder / "with-port.toml"
        config.write_text(text.replace("ADDRESS", url.partition("://")[2]))
        config.chmod(0o600)
        yield Examples(url, config, cache)
