"""``mlxnode init``: a configuration with a key of its own."""

import os
import shlex
import sys
from pathlib import Path

import click

from mlxnode.cli.options import command, json_option
from mlxnode.cli.output import emit, program, say

EXAMPLES = """\
mlxnode init
mlxnode init --config my.toml --address 0.0.0.0:8080
mlxnode init --force                      replace the file, with a new key
"""


@command(EXAMPLES)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file to write; default: $MLXNODE_CONFIG, else ~/.config/mlxnode/config.toml, or "
    "the file of Homebrew's service.",
)
@click.option("--address", metavar="HOST:PORT", help="Where the node listens.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@json_option
def init(config: Path | None, address: str | None, force: bool, as_json: bool) -> int:
    """Write a commented configuration with a fresh key, which only you can read."""
    from mlxnode.config.file import parse_address
    from mlxnode.config.starter import new_key, starter_path, starter_text, write_starter
    from mlxnode.service.homebrew import homebrew_prefix

    if address is not None:
        parse_address(address)
    prefix = homebrew_prefix(Path(sys.prefix))
    file = config.expanduser().absolute() if config else starter_path(os.environ, prefix)
    key = new_key()
    write_starter(file, starter_text(key, address), is_forced=force)
    if sys.stdout.isatty() and not as_json:  # a log or a file would keep it
        say(f"your key: {key}\n(`mlxnode key` prints it again)")
    emit({"file": file}, as_json, lambda: _text(file, is_homebrew=prefix is not None))
    return 0


def _text(file: Path, *, is_homebrew: bool) -> str:
    from mlxnode.config.place import find_config

    found = find_config(os.environ)
    is_found = found is not None and found.exists() and found.samefile(file)
    option = "" if is_found else f" --config {shlex.quote(str(file))}"
    lines = [f"wrote {file}", f"  {program()} serve{option}"]
    if is_homebrew:
        lines.append("  brew services restart mlxnode")
    return "\n".join(lines)
