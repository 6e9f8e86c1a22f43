"""``mlxnode models``: the models that a node can serve."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlxnode.cli.options import address_option, command, config_option, json_option
from mlxnode.cli.output import emit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlxnode.cli.model_rows import ModelRow
    from mlxnode.config.file import LoadedConfig
    from mlxnode.figures import NodeFigures

EXAMPLES = """\
mlxnode models
mlxnode models --all                   also what is not served, and why
mlxnode models --json | jq -r '.models[] | select(.fit == "yes") | .id'
"""


@command(EXAMPLES)
@config_option
@address_option("Ask the node there which models are loaded.")
@click.option("--all", "show_all", is_flag=True, help="Also what is not served, and why.")
@json_option
def models(config: Path | None, address: str | None, show_all: bool, as_json: bool) -> int:
    """List the models, whether they are on disk, and whether they fit."""
    from mlxnode.cli.loading import load, warn
    from mlxnode.cli.model_rows import model_rows
    from mlxnode.config.file import parse_address

    loaded = load(config)
    warn(loaded)
    port = loaded.port if address is None else parse_address(address)[1]
    figures = _running(port)
    rows = model_rows(loaded, figures)
    skipped = [
        {"id": one.id, "path": str(one.path), "reason": one.reason} for one in loaded.skipped
    ]
    emit(
        {
            "configuration": loaded.where,
            "is_running": figures is not None,
            "models": rows,
            "skipped": skipped,
        },
        as_json,
        lambda: _text(loaded, rows, skipped, show_all),
    )
    return 0


def _running(port: int) -> "NodeFigures | None":
    from mlxnode.errors import StatusError
    from mlxnode.process.status_socket import read_status

    try:
        return read_status(port)
    except StatusError:  # no node runs, which is no error here
        return None


def _text(
    loaded: "LoadedConfig",
    rows: "list[ModelRow]",
    skipped: list[dict[str, str]],
    show_all: bool,
) -> "RenderableType":
    from rich.console import Group

    parts: list[RenderableType] = [_table(rows)]
    if show_all and skipped:
        parts += ["", _skipped_table(skipped)]
    elif skipped:
        parts += ["", f"{len(skipped)} on the disk are not served: mlxnode models --all"]
    if not any(row.on_disk for row in rows) and not loaded.config.api.models:
        parts += ["no model is configured"]
    return Group(*parts)


def _table(rows: "list[ModelRow]") -> "RenderableType":
    """The columns that say something of any model."""
    from mlxnode.cli.terminal import Column, table

    cells: list[tuple[Column, list[str]]] = [
        (Column("ID"), [row.id for row in rows]),
        (Column("TYPE"), [row.type for row in rows]),
        (Column("SIZE", is_right=True), [row.size_text for row in rows]),
        (Column("CONTEXT", is_right=True), [row.context_text for row in rows]),
        (Column("ON DISK"), [row.disk_text for row in rows]),
        (Column("FIT"), [row.fit or "-" for row in rows]),
        (Column("STATE"), [row.state for row in rows]),
        (Column("QUANTIZED", is_optional=True), [row.quantization for row in rows]),
        (Column("ALIASES", is_optional=True), [", ".join(row.aliases) for row in rows]),
        (Column("PATH", is_optional=True), [row.path for row in rows]),
    ]
    kept = [(column, values) for column, values in cells if any(values) or not rows]
    columns = [column for column, _ in kept]
    return table(columns, list(zip(*(values for _, values in kept), strict=True)))


def _skipped_table(
    skipped: list[dict[str, str]],
) -> "RenderableType":
    from mlxnode.cli.terminal import Column, table

    columns = [Column("NOT SERVED"), Column("REASON"), Column("PATH", is_optional=True)]
    return table(columns, [(one["id"], one["reason"], one["path"]) for one in skipped])
