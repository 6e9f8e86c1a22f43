"""``mlxnode serve``: run a node until it is ended."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxnode.cli.model_names import complete_model
from mlxnode.cli.options import address_option, command, config_option
from mlxnode.cli.output import program, say, to_json_line

if TYPE_CHECKING:
    from mlxnode.models.served import ServedModel

LOG_LEVELS = ("debug", "info", "warning", "error")  # a test compares them

EXAMPLES = """\
mlxnode serve                                 the models of config.toml, else those on the disk
mlxnode serve ~/models/Qwen3-8B-4bit          this model only
mlxnode serve smollm2-135m-instruct           a demo model
mlxnode serve --config my.toml --address 0.0.0.0:8000
mlxnode serve --address 127.0.0.1:0 --json    a free port, told on standard output
"""


@command(EXAMPLES)
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_model)
@config_option
@address_option("Listen there instead.")
@click.option("--workers", type=int, metavar="N", help="The number of HTTP processes.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), help="How much to log.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one line of JSON on standard output once the node is ready.",
)
def serve(
    models: tuple[str, ...],
    config: Path | None,
    address: str | None,
    workers: int | None,
    log_level: str | None,
    as_json: bool,
) -> int:
    """Serve models over HTTP.

    MODEL is an id or an alias of `mlxnode models`, a folder, a .gguf file, a Hugging Face
    repository ("org/name") or a demo model. Default: the models of the configuration; without
    any, those on the disk; without any, the demo models.
    """
    from mlxnode.cli.loading import load, resolve, warn
    from mlxnode.config.shared_limits import check_shared_limits
    from mlxnode.config.tracing import check_tracing
    from mlxnode.errors import ModelError
    from mlxnode.process.logging import set_up_logging

    overrides = {
        "api.address": address,
        "server.workers": workers,
        "server.log_level": log_level,
    }
    loaded = load(config, overrides=overrides, names=models)
    node = loaded.config
    set_up_logging(node.server.log_level)
    warn(loaded)
    if not node.api.enabled:
        say(f"mlxnode: {loaded.where}: api.enabled = false: nothing to serve")
        return 0

    check_tracing(node.server, loaded.where)
    check_shared_limits(node.server.shared_limits, loaded.where)

    from mlxnode.models.resolve import failure_text
    from mlxnode.process.access import access_of
    from mlxnode.process.accounts import Accounts
    from mlxnode.process.changes import NodeModels
    from mlxnode.process.fits import FitWeigher
    from mlxnode.process.listener import listen, url_of
    from mlxnode.process.ready import ready_text
    from mlxnode.process.supervisor import Supervisor
    from mlxnode.process.watch import ConfigWatch

    listener = listen(loaded.host, loaded.port)
    served, failed = resolve(loaded)
    if failed and (not served or node.server.require_all_models):
        raise ModelError(f"{loaded.where}: {failure_text(node, failed)}")
    url = url_of(listener, "http" if loaded.certificate is None else "https")

    def on_ready(failed: dict[str, str]) -> None:
        say(ready_text(url, served, failed, loaded, program()))
        if as_json:
            _print_ready(url, served, failed)

    return Supervisor(
        node.without_secrets(),
        served,
        access_of(loaded),
        listener,
        failed=failed,
        aliases=loaded.aliases,
        watch=ConfigWatch(
            loaded,
            NodeModels(served, failed, loaded.aliases),
            lambda: load(loaded.file, overrides=overrides, names=models),
        ),
        weigher=FitWeigher(node.engine),
        accounts=Accounts(node.without_secrets(), node.server.shared_limits),
        on_progress=say,
        on_ready=on_ready,
    ).run()


def _print_ready(url: str, models: "Sequence[ServedModel]", failed: Mapping[str, str]) -> None:
    served = [
        {"id": model.id, "type": model.type, "context_length": model.context_length}
        for model in models
        if model.id not in failed
    ]
    ready = {"url": f"{url}/v1", "pid": os.getpid(), "models": served, "failed": failed}
    with contextlib.suppress(OSError):  # whoever read it may be gone; the node goes on
        print(to_json_line(ready), flush=True)
