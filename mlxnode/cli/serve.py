"""``mlxnode serve``: run a node until it is ended."""

from pathlib import Path
from typing import get_args

import click

from mlxnode.cli.options import address_option, command, config_option
from mlxnode.cli.output import program, say
from mlxnode.config.tables import LogLevel

EXAMPLES = """\
mlxnode serve                                   the models of config.toml, else the demo models
mlxnode serve --config my.toml --address 0.0.0.0:8000
"""


@command(EXAMPLES)
@config_option
@address_option("Listen there instead.")
@click.option("--workers", type=int, metavar="N", help="The number of HTTP processes.")
@click.option("--log-level", type=click.Choice(get_args(LogLevel)), help="How much to log.")
def serve(
    config: Path | None, address: str | None, workers: int | None, log_level: str | None
) -> int:
    """Serve models over HTTP."""
    from mlxnode.cli.loading import resolve, warn
    from mlxnode.config.file import load_config
    from mlxnode.errors import ModelError
    from mlxnode.process.logging import set_up_logging

    overrides = {
        "api.address": address,
        "server.workers": workers,
        "server.log_level": log_level,
    }
    loaded = load_config(config, overrides=overrides)
    node = loaded.config
    set_up_logging(node.server.log_level)
    warn(loaded)
    if not node.api.enabled:
        say(f"mlxnode: {loaded.where}: api.enabled = false: nothing to serve")
        return 0

    from mlxnode.models.resolve import failure_text
    from mlxnode.process.access import AccessWatch, access_of
    from mlxnode.process.listener import listen, url_of
    from mlxnode.process.ready import ready_text
    from mlxnode.process.supervisor import Supervisor

    listener = listen(loaded.host, loaded.port)
    models, failed = resolve(loaded)
    if failed and (not models or node.server.require_all_models):
        raise ModelError(f"{loaded.where}: {failure_text(node, failed)}")
    url = url_of(listener, "http" if loaded.certificate is None else "https")
    return Supervisor(
        node.without_secrets(),
        models,
        access_of(loaded),
        listener,
        failed=failed,
        watch=AccessWatch(loaded, lambda: load_config(loaded.file, overrides=overrides)),
        on_progress=say,
        on_ready=lambda failed: say(ready_text(url, models, failed, loaded, program())),
    ).run()
