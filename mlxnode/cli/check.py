"""``mlxnode check``: the configuration and the models, without serving."""

from pathlib import Path

import click

from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit

EXAMPLES = """\
mlxnode check
mlxnode check --deep && mlxnode serve
"""


@command(EXAMPLES)
@config_option
@click.option("--deep", is_flag=True, help="Load each model and run it, as serve does.")
@json_option
def check(config: Path | None, deep: bool, as_json: bool) -> int:
    """Check the configuration and the models without serving."""
    from mlxnode.cli.loading import load, resolve, warn
    from mlxnode.errors import ModelError
    from mlxnode.models.resolve import failure_text
    from mlxnode.process.weigh import load_once, notations, weigh

    loaded = load(config)
    warn(loaded)
    models, failed = resolve(loaded)
    engine = loaded.config.engine
    found = weigh(models, engine)
    lines = notations(models, engine)
    checked = []
    for model in models:
        fit = found[model.id]
        facts = [fit.text] if fit.fits else []
        if not fit.fits:
            failed[model.id] = fit.text
        checked.append(
            {
                "id": model.id,
                "type": model.type,
                "architecture": model.architecture,
                "context_length": model.context_length,
                "fit": fit._asdict(),
                "notation": lines.get(model.id, []),
            }
        )
        if not as_json:
            click.echo(
                f"{model.id}: {model.type}, {model.architecture}, {model.context_length} tokens"
            )
            for line in [*facts, *lines.get(model.id, [])]:
                click.echo(f"  {line}")
    if deep:
        failed |= load_once([model for model in models if model.id not in failed], engine)
    if failed and not as_json:
        raise ModelError(f"{loaded.where}: {failure_text(loaded.config, failed)}")
    emit(
        {"configuration": loaded.where, "models": checked, "failed": failed},
        as_json,
        f"{loaded.where}: {len(models)} models, nothing to complain about",
    )
    return 1 if failed else 0
