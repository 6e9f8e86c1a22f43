"""``mlxnode pull``: a model of the hub onto the disk, if it fits."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit, program, say
from mlxnode.cli.progress import download_bar
from mlxnode.errors import ModelError

if TYPE_CHECKING:
    from mlxnode.models.fit import Weighed
    from mlxnode.models.pull.listing import Listing

EXAMPLES = """\
mlxnode pull mlx-community/Qwen3-0.6B-4bit
mlxnode pull bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M
mlxnode pull org/name --revision v1.0
mlxnode pull org/name --include "*Q8_0.gguf" --dry-run
mlxnode pull smollm2-135m-instruct        a demo model
"""


@command(EXAMPLES)
@click.argument("model")
@click.option("--revision", metavar="NAME", help="A branch, a tag or a commit; default: main.")
@click.option(
    "--include",
    multiple=True,
    metavar="PATTERN",
    help='Only the files that match, as "*Q4_K_M.gguf"; can be repeated.',
)
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and whether it fits.")
@click.option("--yes", is_flag=True, help="Also fetch a model that does not fit; do not ask.")
@config_option
@json_option
def pull(
    model: str,
    revision: str | None,
    include: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    config: Path | None,
    as_json: bool,
) -> int:
    """Fetch a model of the Hugging Face hub, or a demo model.

    Before the download, this shows its size, what is on the disk already, and whether the model
    fits into the memory of this machine. A download that has ended early goes on where it was.
    """
    from mlxnode.config.file import load_config
    from mlxnode.models.demo import DEMO_MODELS
    from mlxnode.models.pull.listing import ask_hub
    from mlxnode.models.pull.wanted import parse_wanted

    if (demo := model.removeprefix("demo/")) in DEMO_MODELS and not (revision or include):
        return _pull_demo(demo, dry_run, as_json)
    wanted = parse_wanted(model, revision, include)
    engine = load_config(config).config.engine
    listing = ask_hub(wanted)
    if listing.is_complete:
        _report(listing, None, "already here", as_json)
        return 0
    try:
        return _pull(listing, engine, dry_run, yes, as_json)
    except KeyboardInterrupt:
        say("mlxnode: stopped; the same command goes on where this one ends")
        sys.stdout.flush()
        os._exit(130)  # at once: threads wait for the network, and what they have is kept


def _pull(listing: "Listing", engine: Any, dry_run: bool, yes: bool, as_json: bool) -> int:
    from mlxnode.models.pull.download import check_space, download

    free = check_space(listing)
    say(_summary(listing, free))
    verdict = _weigh(listing, engine)
    say(f"  {verdict.text}")
    if dry_run:
        _report(listing, verdict, "not fetched", as_json)
        return 0
    if not verdict.fits:
        _confirm(listing, yes)
    here = listing.size - listing.missing
    with download_bar(f"fetching {listing.repository}", listing.size, here) as show:
        download(listing, show)
    _report(listing, verdict, "fetched", as_json)
    return 0


def _summary(listing: "Listing", free: int) -> str:
    here = listing.size - listing.missing
    count = len(listing.files)
    parts = [f"{count} file{'s' if count > 1 else ''}, {gb(listing.size)}"]
    if here:
        parts.append(f"{gb(here)} of them are here, {gb(listing.missing)} to fetch")
    parts.append(f"{gb(free)} free on the disk")
    commit = listing.commit[:12]
    return f"{listing.repository} at {listing.revision} ({commit})\n  {'; '.join(parts)}"


def _weigh(listing: "Listing", engine: Any) -> "Weighed":
    """The verdict, from the headers of the files alone."""
    from mlxnode.models.fit import Weighed
    from mlxnode.models.pull.failures import HubError
    from mlxnode.models.pull.preview import preview
    from mlxnode.process.weigh import weigh

    try:
        with preview(listing) as served:
            return weigh([served], engine)[served.id]
    except HubError:
        raise
    except ModelError as error:
        return Weighed("no", f"cannot be served: {error}", False)


def _confirm(listing: "Listing", yes: bool) -> None:
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ModelError(f"{listing.repository} is not fetched; --yes fetches it nevertheless")
    if not click.confirm("Fetch it nevertheless?", err=True):
        raise ModelError(f"{listing.repository} is not fetched")


def _report(listing: "Listing", verdict: "Weighed | None", outcome: str, as_json: bool) -> None:
    value = {
        "repository": listing.repository,
        "revision": listing.revision,
        "commit": listing.commit,
        "path": listing.path,
        "size_bytes": listing.size,
        "missing_bytes": listing.missing,
        "fits": None if verdict is None else verdict.fits,
        "verdict": None if verdict is None else verdict.text,
        "outcome": outcome,
    }
    emit(value, as_json, lambda: _outcome_text(listing, outcome))


def _outcome_text(listing: "Listing", outcome: str) -> str:
    if outcome == "not fetched":
        return f"{gb(listing.missing)} would be fetched to {listing.path}"
    is_whole = listing.revision == "main" and listing.path == listing.snapshot
    name = listing.repository if is_whole else shlex.quote(str(listing.path))
    return f"{outcome}: {listing.path}\n{program()} serve {name}"


def _pull_demo(name: str, dry_run: bool, as_json: bool) -> int:
    from mlxnode.models.demo import DEMO_MODELS, demo_path, fetch_demo_model

    path = demo_path(name)
    outcome = "already here" if path.exists() else "not fetched" if dry_run else "fetched"
    if outcome == "fetched":
        with download_bar(f"fetching {name}", DEMO_MODELS[name].num_bytes) as show:
            fetch_demo_model(name, meter=show)
            show(DEMO_MODELS[name].num_bytes)
    value = {"repository": f"demo/{name}", "path": path, "outcome": outcome}
    size = DEMO_MODELS[name].size
    would = f"{size} would be fetched to {path}"
    emit(value, as_json, would if outcome == "not fetched" else f"{outcome}: {path}")
    return 0


def gb(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
