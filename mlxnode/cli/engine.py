"""``mlxnode engine``: be one rank of an engine on several machines."""

import os
import sys
from pathlib import Path

import click

from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit

EXAMPLES = """\
MLXNODE_ENGINE_KEY=... mlxnode engine --rank 1 --of 10.0.0.1:32323
mlxnode engine --rank 1 --of 10.0.0.1:32323 --config my.toml
"""


@command(EXAMPLES)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--of", "where", metavar="HOST:PORT", help="Where rank 0 listens.")
@click.option("--rank", type=click.IntRange(min=1), help="The place in the hostfile, from 1.")
@config_option
@click.option(
    "--launched",
    is_flag=True,
    help="For mlx.launch: the key comes on standard input, and the first session is the last.",
)
@click.option(
    "--describe",
    is_flag=True,
    help="Print the versions, and with --json the checksums of each MODEL.",
)
@json_option
def engine(
    models: tuple[str, ...],
    where: str | None,
    rank: int | None,
    config: Path | None,
    launched: bool,
    describe: bool,
    as_json: bool,
) -> int:
    """Be one rank of the engine of a node on another machine.

    The key is [engine.distributed] key or key_file of --config, or $MLXNODE_ENGINE_KEY.
    The process waits for rank 0, and after the end of rank 0 for the next one.
    """
    from mlxnode.cli.node_options import ended_by_signals
    from mlxnode.config.file import load_config, parse_address
    from mlxnode.config.several import engine_key
    from mlxnode.engine.ranks import rank_process
    from mlxnode.errors import ConfigError

    if where is None and not describe:
        raise click.UsageError("--of HOST:PORT is missing: where rank 0 listens")
    try:
        host, port = parse_address(where) if where else ("", 0)
    except ConfigError:
        raise click.UsageError(
            f'--of {where}: expected HOST:PORT, as "10.0.0.1:32323"'
        ) from None
    with ended_by_signals():
        if describe:
            from mlxnode.engine.ranks.description import full_description

            key = sys.stdin.readline().strip() if where else ""
            said = full_description(models, (host, port) if where else None, key)
            packages = [f"{name} {version}" for name, version in said["versions"].items()]
            emit(said, as_json, f"{said['host']}: {', '.join(packages)}")
            return 0
        if launched:
            rank = int(os.environ.get("MLX_RANK", "0")) + 1  # mlx.launch counts from 0
            return rank_process.run(host, port, _asked_key(), rank, once=True, timeout=20.0)
        if rank is None:
            raise click.UsageError(
                "--rank N is missing: the place of this machine in the hostfile"
            )
        distributed = load_config(config).config.engine.distributed if config else None
        key = engine_key(distributed)
        if key is None:
            raise ConfigError(
                "there is no key: set $MLXNODE_ENGINE_KEY, or --config FILE with "
                "[engine.distributed] key or key_file, as rank 0 has it"
            )
        return rank_process.run(host, port, key, rank)


def _asked_key() -> str:
    """The key from standard input, asked for as ``engine/ranks/launching.py`` waits for it."""
    from mlxnode.engine.ranks.launching import ASK

    print(ASK, flush=True)
    key = sys.stdin.readline().strip()
    # mlx.launch passes on all that it gets; nothing more is read here.
    sys.stdin.close()
    return key
