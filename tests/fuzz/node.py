"""A node with tiny models of every type, to be attacked."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fuzz.bodies import CHAT, EMBEDDING, RERANK
from support import tiny
from support.node_process import API_KEY, NodeProcess

CONFIG = f"""
[api]
address = "127.0.0.1:0"
api_key = "{API_KEY}"
[api.models.{CHAT}]
path = "chat"
type = "chat"
[api.models.{EMBEDDING}]
path = "vectors"
type = "embedding"
[api.models.{RERANK}]
path = "rerank"
type = "rerank"
[server]
workers = 2
request_timeout = 10
"""


@contextlib.contextmanager
def attacked_node(folder: Path, config: str = CONFIG) -> Iterator[NodeProcess]:
    """A node that serves; it ends with the block."""
    tiny.make_chat_model(folder / "chat", template=tiny.TOOL_TEMPLATE, context=2048)
    tiny.make_embedding_model(folder / "vectors")
    tiny.make_cross_encoder(folder / "rerank")
    with NodeProcess(folder, config) as node:
        node.wait_ready()
        yield node


def port_of(node: NodeProcess) -> int:
    return int(node.url.rpartition(":")[2])
