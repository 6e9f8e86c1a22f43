"""``mlxnode rm``: removes a fetched model from the disk."""

import sys
from pathlib import Path

import click

from mlxnode.cli.model_names import complete_model
from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit, say
from mlxnode.errors import ModelError

EXAMPLES = """\
mlxnode rm mlx-community/Qwen3-0.6B-4bit
mlxnode rm smollm2-135m-instruct --yes
mlxnode rm qwen3-0.6b-4bit --dry-run
"""


@command(EXAMPLES)
@click.argument("model", shell_complete=complete_model)
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also a model that a running node has loaded.")
@config_option
@json_option
def rm(
    model: str, dry_run: bool, yes: bool, force: bool, config: Path | None, as_json: bool
) -> int:
    """Remove a model that was fetched: an id, an alias, or an id of the hub.

    Removed are models in the cache of the Hugging Face hub, in all their revisions, and demo
    models. A folder of your own is never touched.
    """
    from mlxnode.cli.loading import load
    from mlxnode.cli.pull import gb
    from mlxnode.models.removal import plan_removal

    loaded = load(config)
    plan = plan_removal(model, loaded.config, loaded.folder, loaded.aliases)
    say(f"{plan.what}: {gb(plan.size)} in\n" + "\n".join(f"  {path}" for path in plan.paths))
    if not dry_run:
        if not force:
            _check_idle({model, plan.what, *plan.ids})
        _confirm(yes)
        plan.run()
    named = [id for id in plan.ids if id not in loaded.found]
    if named and loaded.file is not None:
        say(f"{loaded.file} still names it ({', '.join(named)}): `serve` fetches it again")
    value = {
        "model": plan.what,
        "paths": plan.paths,
        "size_bytes": plan.size,
        "is_removed": not dry_run,
    }
    done = f"{gb(plan.size)} would be free" if dry_run else f"removed: {plan.what}"
    emit(value, as_json, done)
    return 0


def _check_idle(ids: set[str]) -> None:
    """Raises ModelError if a node of this user has one of the models in memory."""
    from mlxnode.errors import StatusError
    from mlxnode.process.status_socket import read_status, running_ports

    for port in running_ports():
        try:
            figures = read_status(port)
        except StatusError:  # a node that was killed has left its socket
            continue
        models = figures.engine.models if figures.engine else []
        for found in models:
            if found.id in ids and found.state != "unloaded":
                raise ModelError(
                    f"{found.id} is {found.state} in the node on {figures.address}: stop the "
                    "node or unload the model first; --force removes it nevertheless"
                )


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ModelError("nothing is removed; --yes removes without a question")
    if not click.confirm("Remove it?", err=True):
        raise ModelError("nothing is removed")
