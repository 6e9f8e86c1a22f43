"""The figures of a trace that was played, simulated or real."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from scaling.cluster import Played
from scaling.requests import Request


@dataclass(frozen=True)
class Summary:
    """Times in seconds, throughput in generated tokens per second.

    ``hit_rate``: of the prompt tokens, those from a cache. ``refused``: requests.
    """

    requests: int
    refused: int
    throughput: float
    ttft_mean: float
    ttft_p50: float
    ttft_p95: float
    itl_mean: float
    itl_p50: float
    itl_p95: float
    hit_rate: float

    def rows(self) -> list[tuple[str, str]]:
        """Each figure with its unit, for a table."""
        return [(NAMES[name], text_of(name, value)) for name, value in asdict(self).items()]


NAMES = {
    "requests": "requests",
    "refused": "refused",
    "throughput": "throughput",
    "ttft_mean": "TTFT mean",
    "ttft_p50": "TTFT p50",
    "ttft_p95": "TTFT p95",
    "itl_mean": "ITL mean",
    "itl_p50": "ITL p50",
    "itl_p95": "ITL p95",
    "hit_rate": "prefix hit rate",
}


def text_of(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name.startswith(("ttft", "itl")):
        return f"{1000 * value:.0f} ms"
    if name == "hit_rate":
        return f"{value:.1%}"
    return f"{value:.1f} tokens/s" if name == "throughput" else f"{value:.0f}"


def summarize(requests: Sequence[Request], seconds: float) -> Summary:
    """The figures of ``requests``, which took ``seconds`` in all."""
    served = [request for request in requests if not math.isnan(request.first_token_at)]
    ttfts = sorted(request.first_token_at - request.sent_at for request in served)
    gaps = sorted(gap for request in served for gap in request.gaps)
    prompt = sum(request.prompt for request in served)
    return Summary(
        requests=len(requests),
        refused=sum(request.is_refused for request in requests),
        throughput=sum(request.num_generated for request in served) / max(seconds, 1e-9),
        ttft_mean=mean(ttfts),
        ttft_p50=quantile(ttfts, 0.5),
        ttft_p95=quantile(ttfts, 0.95),
        itl_mean=mean(gaps),
        itl_p50=quantile(gaps, 0.5),
        itl_p95=quantile(gaps, 0.95),
        hit_rate=sum(request.num_cached for request in served) / max(prompt, 1),
    )


def summary_of(played: Played) -> Summary:
    return summarize(played.requests, played.seconds)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of values in their order; NaN if there are none."""
    if not ordered:
        return math.nan
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
