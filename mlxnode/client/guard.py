"""Runs a node for as long as the standard input stays open: ``guard.py COMMAND...``.

Whoever started the guard holds the other end. However that process ends, killed or hung up,
the input closes, and the node ends. The node keeps its state (usage) in a folder of the guard,
which is removed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading

_PATIENCE = 60  # seconds for a node to end by itself


def main(command: list[str]) -> int:
    """Run ``command``; returns its exit code."""
    with tempfile.TemporaryDirectory(prefix="mlxnode-") as state:
        node = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=os.environ | {"MLXNODE_STATE": state}
        )
        signal.signal(signal.SIGTERM, lambda *_: node.terminate())
        threading.Thread(target=_end_with_input, args=(node,), daemon=True).start()
        return node.wait()


def _end_with_input(node: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        continue
    node.terminate()
    try:
        node.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        node.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
