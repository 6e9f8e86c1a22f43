"""``mlxnode reload``: let the running node read its configuration again."""

from pathlib import Path

from mlxnode.cli.options import address_option, command, config_option, json_option
from mlxnode.cli.output import emit

EXAMPLES = """\
mlxnode reload                         after a change of the configuration or of the disk
mlxnode reload --address 127.0.0.1:8000
mlxnode reload && mlxnode models
"""


@command(EXAMPLES)
@config_option
@address_option("The node that listens there.")
@json_option
def reload(config: Path | None, address: str | None, as_json: bool) -> int:
    """Let the running node read its configuration again.

    Models, keys, limits, origins and the certificate change without the end of any stream. A
    wrong configuration changes nothing, and the exit code is 2.
    """
    from mlxnode.cli.loading import port_of
    from mlxnode.process.status_socket import ask_reload

    changes = ask_reload(port_of(config, address))
    emit({"changes": changes}, as_json, lambda: "\n".join(changes or ["nothing is new"]))
    return 0
