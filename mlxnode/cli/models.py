"""``mlxnode models``: the models that a node can serve."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit

if TYPE_CHECKING:
    from rich.table import Table

    from mlxnode.models.resolve import ListedModel

EXAMPLES = """\
mlxnode models
mlxnode models --config my.toml
mlxnode models --json | jq -r '.[].id'
"""


@command(EXAMPLES)
@config_option
@json_option
def models(config: Path | None, as_json: bool) -> int:
    """List the models, whether they are on disk, and whether they fit."""
    from mlxnode.config.file import load_config
    from mlxnode.models.resolve import list_models
    from mlxnode.process.weigh import weigh

    loaded = load_config(config)
    listed = list_models(loaded.config, folder=loaded.folder)
    found = weigh([model for _, model in listed if model is not None], loaded.config.engine)
    rows = [row._replace(fit=found[model.id].short if model else "-") for row, model in listed]
    emit([row._asdict() for row in rows], as_json, lambda: _table(rows))
    return 0


def _table(rows: "list[ListedModel]") -> "Table":
    from mlxnode.cli.terminal import Column, table

    columns = [
        Column("ID"),
        Column("TYPE"),
        Column("SIZE", is_right=True),
        Column("CONTEXT", is_right=True),
        Column("ON DISK"),
        Column("FIT"),
        Column("PATH", is_optional=True),
    ]
    return table(columns, rows)
