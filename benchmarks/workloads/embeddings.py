"""Loads of clients that embed short texts, one in each request."""

import asyncio
import subprocess
from pathlib import Path

from figures import Figure, Goal
from servers import EMBEDDING_MODEL

from mlxnode.bench.prompts import random_words
from mlxnode.bench.requests import embed
from mlxnode.models.demo import fetch_demo_model
from workloads.bench import NodeBench, NodeLoad

_CLIENTS = 32
_TEXTS_PER_CLIENT = 20
_WORDS = 20  # of a text
_REFERENCE = Path(__file__).parents[1] / "embedding_peer.py"


async def embeddings(bench: NodeBench) -> list[Figure]:
    """Embedded texts per CPU-second, and the ratio to sentence-transformers."""
    seeds = bench.seeds(15, _TEXTS_PER_CLIENT * _CLIENTS)
    texts = [random_words(seed, _WORDS) for seed in seeds]
    remaining = iter(texts)

    async def client() -> None:
        for text in remaining:
            await embed(bench.client, bench.server, EMBEDDING_MODEL, text)

    before = sum(bench.server.cpu_seconds().values())
    await asyncio.gather(*(client() for _ in range(_CLIENTS)))
    rate = len(texts) / (sum(bench.server.cpu_seconds().values()) - before)
    name = "embeddings: texts a CPU-second"
    figures = [bench.figure(name, rate, "texts", better="more")]
    if (python := bench.settings.sentence_transformers) is not None:
        reference = await asyncio.to_thread(_sentence_transformers_rate, python, texts)
        name, goal = f"{name} over sentence-transformers'", Goal("value", "≥", 1.0)
        figures.append(bench.figure(name, rate / reference, "times", better="more", goal=goal))
    return figures


def _sentence_transformers_rate(python: str, texts: list[str]) -> float:
    """Embedded texts per CPU-second of sentence-transformers."""
    command = [python, str(_REFERENCE), str(fetch_demo_model(EMBEDDING_MODEL))]
    output = subprocess.run(
        command, input="\n".join(texts), capture_output=True, text=True, check=True
    )
    return float(output.stdout)


async def chat_beside_embeddings(bench: NodeBench) -> list[Figure]:
    """Eight running answers, without and with clients that embed texts."""
    running = bench.seeds(16, 8)
    alone, _ = await bench.running_itl_p95(running)
    num_embedded = 0

    async def client(seed: int) -> None:
        nonlocal num_embedded
        while True:
            await embed(
                bench.client,
                bench.server,
                EMBEDDING_MODEL,
                random_words(seed + num_embedded, _WORDS),
            )
            num_embedded += 1

    async def clients() -> None:
        await asyncio.gather(*(client(1000 * n) for n in range(_CLIENTS)))

    beside, seconds = await bench.running_itl_p95([seed + 500 for seed in running], clients)
    return [
        bench.figure(
            "8 streams beside 32 embedding clients: ITL p95 over that without",
            beside / alone,
            "times",
            goal=Goal("value", "≤", 2),
        ),
        bench.figure(
            "32 embedding clients beside 8 streams",
            num_embedded / seconds,
            "texts/s",
            better="more",
        ),
    ]


LOADS = {
    "embeddings": NodeLoad(embeddings),
    "chat-and-embeddings": NodeLoad(chat_beside_embeddings),
}
