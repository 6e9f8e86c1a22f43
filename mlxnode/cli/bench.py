"""``mlxnode bench``: this node beside other servers."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mlxnode.cli.model_names import complete_model
from mlxnode.cli.node_options import ended_by_signals, waiting
from mlxnode.cli.options import address_option, command, config_option
from mlxnode.cli.output import emit, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlxnode.bench.figures import Figure, Kind
    from mlxnode.bench.servers import Server
    from mlxnode.client.connect import Wanted

EXAMPLES = """\
mlxnode bench
mlxnode bench --model my-chat-model --mlx-lm --clients 1,4,16 --plot bench.svg
mlxnode bench --url http://127.0.0.1:8000 --url http://mini.local:8080 --json bench.json
"""
_STDOUT = "-"


class _Plan(NamedTuple):
    """What is asked for by the command line."""

    clients: list[int]
    rounds: int
    max_tokens: int
    prompt_words: int
    urls: tuple[str, ...]
    url_key: str | None
    has_mlx_lm: bool


class _Result(NamedTuple):
    figures: "list[Figure]"
    models: "dict[Kind, dict[str, str]]"
    shares: dict[str, float]
    bandwidth: float | None


def _counts(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    """``1,4,16`` as numbers."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= 1024 for part in parts):
        raise click.BadParameter(f"expected numbers from 1 to 1024, as 1,4,16, got {text!r}")
    return sorted({int(part) for part in parts})


@command(EXAMPLES)
@click.option(
    "--model",
    metavar="ID",
    help="Default: a chat model, and an embedding model.",
    shell_complete=complete_model,
)
@click.option("--url", "urls", multiple=True, metavar="URL", help="One more server to compare.")
@click.option("--url-key", metavar="KEY", help="The key for the servers of --url.")
@click.option("--mlx-lm", "mlx_lm", is_flag=True, help="Compare mlx_lm.server, started for it.")
@click.option(
    "--clients",
    default="1,4,16",
    show_default=True,
    metavar="N,...",
    callback=_counts,
    help="Requests at a time.",
)
@click.option(
    "--rounds",
    default=3,
    show_default=True,
    type=click.IntRange(1, 100),
    help="The figures are their medians.",
)
@click.option(
    "--max-tokens",
    default=64,
    show_default=True,
    type=click.IntRange(2, 8192),
    help="Of each answer.",
)
@click.option(
    "--prompt-words",
    default=160,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Of each prompt.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw an SVG.")
@click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value=_STDOUT,
    metavar="[FILE]",
    help="Write one JSON document to FILE, or print it.",
)
@click.option("--api-key", metavar="KEY", help="The key for this node.")
@address_option("The node that listens there.")
@config_option
def bench(
    model: str | None,
    plot: Path | None,
    json_file: str | None,
    api_key: str | None,
    address: str | None,
    config: Path | None,
    **options: Any,
) -> int:
    """Measure this node, beside mlx_lm.server or other servers.

    All servers get the same prompts and limits in alternate rounds, so that other work of the
    machine affects all of them: read the ratios. The figures are medians of the rounds. Where
    no node answers, one is started for the measurement.
    """
    from mlxnode.bench.report import plot as draw
    from mlxnode.bench.report import require_matplotlib
    from mlxnode.client.connect import Wanted

    if plot is not None:
        require_matplotlib()
    plan = _Plan(
        options["clients"],
        options["rounds"],
        options["max_tokens"],
        options["prompt_words"],
        options["urls"],
        options["url_key"],
        options["mlx_lm"],
    )
    node = Wanted(None, address, api_key, config)
    with ended_by_signals(), waiting("looking for a node") as news:
        result = _run(node, model, plan, news)
    _tell(result, plan, json_file)
    if plot is not None:
        draw(result.figures, plot)
    return 0


def _run(
    node: "Wanted", model: str | None, plan: _Plan, say: "Callable[[str], None]"
) -> _Result:
    """Measure the chat model and the embedding model, or the one that is asked for."""
    from mlxnode.bench.compare import other_servers, this_node
    from mlxnode.bench.figures import KINDS, kind_of
    from mlxnode.bench.loads import Load
    from mlxnode.bench.rounds import measure
    from mlxnode.bench.servers import MLX_LM_SERVER, MLXNODE
    from mlxnode.client.choosing import one_of_each
    from mlxnode.client.connect import Connection

    figures: list[Figure] = []
    names: dict[Kind, dict[str, str]] = {}
    with contextlib.ExitStack() as running:
        connection = running.enter_context(Connection(node, model, KINDS, say))
        models = [connection.model]
        if model is None:
            models = one_of_each(connection.client.models(), KINDS)
        endpoint = connection.client.endpoint
        for one in models:
            kind = kind_of(one.type)
            with contextlib.ExitStack() as beside:
                servers: list[Server] = [this_node(endpoint, one.id)]
                if plan.has_mlx_lm and kind == "chat":
                    servers.append(beside.enter_context(_mlx_lm(node, one.id, model, say)))
                if plan.urls:
                    servers += other_servers(plan.urls, one, plan.url_key)
                load = Load(kind, plan.max_tokens, plan.prompt_words)
                figures += measure(servers, load, plan.clients, plan.rounds, say)
                names[kind] = {server.name: server.model for server in servers}
        shares, bandwidth = {}, None
        chat = names.get("chat")
        if chat is not None and endpoint.is_local:
            say("measuring the bandwidth of the memory")
            shares, bandwidth = _bandwidth(endpoint.url, chat[MLXNODE], figures)
        shares = {n: s for n, s in shares.items() if n in (MLXNODE, MLX_LM_SERVER)}
    return _Result(figures, names, shares, bandwidth)


def _mlx_lm(
    node: "Wanted", model: str, wanted: str | None, say: "Callable[[str], None]"
) -> Any:
    from mlxnode.bench.compare import mlx_lm_server
    from mlxnode.cli.loading import load

    say("starting mlx_lm.server")
    loaded = load(node.config)
    table = loaded.config.api.models.get(model)
    return mlx_lm_server(table.path if table else wanted or model, loaded.folder)


def _bandwidth(
    url: str, model: str, figures: "Sequence[Figure]"
) -> tuple[dict[str, float], float | None]:
    from urllib.parse import urlsplit

    from mlxnode.bench.machine import copy_bandwidth, shares, weight_bytes

    weights = weight_bytes(urlsplit(url).port or 0, model)
    bandwidth = copy_bandwidth()
    if weights is None or bandwidth is None:
        return {}, bandwidth
    return shares(figures, weights, bandwidth), bandwidth


def _tell(result: _Result, plan: _Plan, json_file: str | None) -> None:
    from datetime import UTC, datetime

    from mlxnode.bench.machine import facts
    from mlxnode.bench.report import document, tables
    from mlxnode.bench.servers import MLXNODE, BenchError

    settings = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["mlxnode", *sys.argv[1:]]),
        "machine": facts(),
        "rounds": plan.rounds,
        "max_tokens": plan.max_tokens,
        "prompt_words": plan.prompt_words,
        "memory_bandwidth": result.bandwidth,
        "bandwidth_share": result.shares,
    }
    found = document(result.figures, result.models, settings)
    if json_file not in (None, _STDOUT):
        try:
            Path(json_file or "").write_text(f"{to_json(found)}\n")
        except OSError as error:
            raise BenchError(
                f"--json {json_file}: cannot be written: {error.strerror}"
            ) from error
    as_json = json_file == _STDOUT
    emit(found, as_json, lambda: tables(result.figures, result.shares, MLXNODE))
