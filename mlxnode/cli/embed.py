"""``mlxnode embed``: vectors of texts."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from mlxnode.cli.fetching import fetch_missing
from mlxnode.cli.model_names import complete_model
from mlxnode.cli.node_options import ended_by_signals, node_options, waiting, wanted_node
from mlxnode.cli.options import command, json_option
from mlxnode.cli.output import emit

if TYPE_CHECKING:
    from rich.table import Table

    from mlxnode.client.connect import Connection

EXAMPLES = """\
mlxnode embed all-minilm-l6-v2 "A cat sleeps." "A dog barks."
mlxnode embed all-minilm-l6-v2 < lines.txt > vectors.jsonl
mlxnode embed all-minilm-l6-v2 --similarity "A cat sleeps." "A kitten naps." "Stocks fell."
mlxnode embed demo/all-minilm-l6-v2 "Hello" --json | jq .dimensions
"""
_TOGETHER = 64  # texts in one request
_MOST_COMPARED = 200  # texts in a table of similarities
_WIDTH = 32  # characters of a text in that table


@command(EXAMPLES)
@click.argument("model", shell_complete=complete_model)
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--dimensions", type=click.IntRange(min=1), help="Of the vectors.")
@click.option("--similarity", is_flag=True, help="Print how similar the texts are instead.")
@json_option
@node_options
def embed(
    model: str,
    texts: tuple[str, ...],
    dimensions: int | None,
    similarity: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Print the embeddings of texts.

    Without TEXT: of the lines of standard input, but empty ones. One vector is one line of
    JSON, in the order of the texts.
    """
    from mlxnode.client.connect import Connection
    from mlxnode.client.text import encodable

    node = wanted_node(options)
    inputs = [encodable(text) for text in texts or _lines()]
    if not inputs:
        raise click.UsageError("there is no TEXT, and standard input is empty")
    if similarity and len(inputs) > _MOST_COMPARED:
        raise click.UsageError(f"--similarity: at most {_MOST_COMPARED} texts")
    with ended_by_signals():
        fetch_missing(node, model)
        with waiting("looking for a node") as news:
            connection = Connection(node, model, ["embedding"], news)
        with connection:
            if similarity:
                _compare(connection, inputs, dimensions, as_json)
            elif as_json:
                _print_document(connection, inputs, dimensions)
            else:
                for vectors, _ in _batches(connection, inputs, dimensions):
                    for vector in vectors:
                        print(_line(vector))
    return 0


def _lines() -> list[str]:
    """The lines of standard input, unless it is a terminal."""
    if sys.stdin is None or stat.S_ISCHR(os.fstat(sys.stdin.fileno()).st_mode):
        return []
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise click.UsageError("standard input is not UTF-8 text") from None
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def _batches(
    connection: "Connection", texts: Sequence[str], dimensions: int | None
) -> Iterator[tuple[list[list[float]], int]]:
    """Vectors and the number of their tokens, some texts at a time."""
    for start in range(0, len(texts), _TOGETHER):
        batch = texts[start : start + _TOGETHER]
        yield connection.client.embed(connection.model.id, batch, dimensions)


def _line(vector: list[float]) -> str:
    import json

    return json.dumps(vector, separators=(",", ":"))


def _print_document(
    connection: "Connection", texts: Sequence[str], dimensions: int | None
) -> None:
    batches = list(_batches(connection, texts, dimensions))
    vectors = [vector for batch, _ in batches for vector in batch]
    rows = [
        {"text": text, "embedding": vector} for text, vector in zip(texts, vectors, strict=True)
    ]
    document = {
        "model": connection.model.id,
        "dimensions": len(vectors[0]),
        "num_tokens": sum(tokens for _, tokens in batches),
        "data": rows,
    }
    emit(document, True, "")


def _compare(
    connection: "Connection", texts: Sequence[str], dimensions: int | None, as_json: bool
) -> None:
    from mlxnode.client.similarity import cosines

    batches = _batches(connection, texts, dimensions)
    found = cosines([vector for batch, _ in batches for vector in batch])
    document = {"model": connection.model.id, "texts": list(texts), "similarity": found}
    emit(document, as_json, lambda: _table(texts, found))


def _table(texts: Sequence[str], found: list[list[float]]) -> "Table":
    from mlxnode.cli.terminal import Column, table
    from mlxnode.client.text import one_line

    columns = [Column("#", True), Column("TEXT")]
    columns += [Column(str(i + 1), True, is_optional=True) for i in range(len(texts))]
    rows = [
        [str(i + 1), one_line(text, _WIDTH), *(f"{value:.3f}" for value in found[i])]
        for i, text in enumerate(texts)
    ]
    return table(columns, rows)
