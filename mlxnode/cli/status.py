"""``mlxnode status``: what the running node does."""

from pathlib import Path

from mlxnode.cli.options import address_option, command, config_option, json_option
from mlxnode.cli.output import emit

EXAMPLES = """\
mlxnode status
mlxnode status --address 127.0.0.1:8000
mlxnode status --json | jq .engine.memory
"""


@command(EXAMPLES)
@config_option
@address_option("The node that listens there.")
@json_option
def status(config: Path | None, address: str | None, as_json: bool) -> int:
    """Show what the running node does, and its memory."""
    from mlxnode.config.file import load_config, parse_address
    from mlxnode.process.status_socket import read_status
    from mlxnode.process.status_text import status_text

    port = load_config(config).port if address is None else parse_address(address)[1]
    figures = read_status(port)
    emit(figures, as_json, lambda: status_text(figures))
    return 0
