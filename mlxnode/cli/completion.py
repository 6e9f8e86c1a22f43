"""``mlxnode completion``: what a shell needs to complete commands and options."""

import click

from mlxnode.cli.options import command, json_option
from mlxnode.cli.output import emit

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """\
echo 'eval "$(mlxnode completion zsh)"' >> ~/.zshrc
echo 'eval "$(mlxnode completion bash)"' >> ~/.bashrc      bash 4.4 or newer
mlxnode completion fish > ~/.config/fish/completions/mlxnode.fish
"""


@command(EXAMPLES)
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> int:
    """Print a script that completes commands and options in a shell."""
    from click.shell_completion import get_completion_class

    from mlxnode.cli.group import group

    kind = get_completion_class(shell)
    assert kind is not None, shell  # one of SHELLS
    script = kind(group, {}, "mlxnode", "_MLXNODE_COMPLETE").source()
    emit({"shell": shell, "script": script}, as_json, script)
    return 0
