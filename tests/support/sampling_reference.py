"""The expected results of ``sample``, in float64 and one row at a time; and random cases."""

from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from mlxnode.kernels.columns import column
from mlxnode.kernels.philox import uniform
from mlxnode.kernels.sample import (
    BLOCK,
    GROUPS,
    Adjustments,
    Sampled,
    SampleFunction,
    SamplingColumns,
    TokenMasks,
)


@dataclass
class RowCase:
    """The parameters of one row; ``logits`` [V] have the values that the device has."""

    logits: np.ndarray
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    position: int = 0
    bias: dict[int, float] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    repetition: float = 1.0
    frequency: float = 0.0
    presence: float = 0.0
    mask: np.ndarray | None = None  # [V] bool, true for allowed tokens


@dataclass
class Expected:
    """The right token; another token is right as well if ``margin`` is below rounding.

    ``margin`` is the distance of the number and of the cuts from another token, as a share of
    the distribution.
    """

    token: int
    logprob: float
    margin: float


def edited_logits(case: RowCase) -> np.ndarray:
    """The logits with bias, penalties and mask, [V] float64."""
    logits = case.logits.astype(np.float64)
    for token in case.bias.keys() | case.counts.keys():
        value = logits[token] + case.bias.get(token, 0.0)
        count = case.counts.get(token, -1)
        if count >= 0:
            value = value / case.repetition if value > 0 else value * case.repetition
        if count > 0:
            value -= count * case.frequency + case.presence
        logits[token] = value
    if case.mask is not None:
        logits[~case.mask] = -np.inf
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    shifted = wide - wide.max()
    return shifted - np.log(np.exp(shifted).sum())


def ranked(logits: np.ndarray) -> np.ndarray:
    """All ids by logit, descending, ties by lower id."""
    return np.lexsort((np.arange(len(logits)), -logits))


def kept_tokens(case: RowCase) -> tuple[np.ndarray, np.ndarray, float]:
    """The ids that are kept, in sampling order; their weights; the margin of the cuts."""
    logits = edited_logits(case)
    order = ranked(logits)
    order = order[logits[order] > -np.inf]
    with np.errstate(under="ignore"):
        weights = np.exp((logits - logits[order[0]]) / max(case.temperature, 1e-30))
    if case.temperature == 0:
        return order[:1], np.ones(1), np.inf
    if not (case.top_k or case.top_p < 1 or case.min_p > 0):
        ids = np.sort(order)
        ids = ids[np.argsort(ids // BLOCK % GROUPS, kind="stable")]
        return ids, weights[ids], np.inf
    kept, margin = order[: case.top_k or None], np.inf
    if case.top_p < 1:
        mass = np.cumsum(weights[kept])
        before = np.concatenate([[0.0], mass[:-1]]) / mass[-1]
        inside = before < np.float32(case.top_p)
        inside[0] = True
        margin = np.abs(before - np.float32(case.top_p))[1:].min(initial=np.inf)
        kept = kept[inside]
    if case.min_p > 0:
        margin = min(margin, np.abs(weights[kept] - np.float32(case.min_p)).min())
        kept = kept[weights[kept] >= np.float32(case.min_p)]
    return kept, weights[kept], margin


def probabilities(case: RowCase) -> np.ndarray:
    """The probability of each token, [V] float64."""
    ids, weights, _ = kept_tokens(case)
    result = np.zeros(len(case.logits))
    result[ids] = weights / weights.sum()
    return result


def expected(case: RowCase) -> Expected:
    ids, weights, margin = kept_tokens(case)
    number = uniform(np.array([case.seed], np.uint64), np.array([case.position], np.uint32))
    target = float(number[0])
    mass = np.cumsum(weights) / weights.sum()
    chosen = min(np.searchsorted(mass, target, side="right"), len(ids) - 1)
    if len(ids) > 1:
        # The start of the first token and the end of the last token are no edges.
        edges = mass[:-1]
        margin = min(margin, np.abs(edges - target).min())
    token = int(ids[chosen])
    return Expected(token, float(log_softmax(case.logits)[token]), float(margin))


# ---- the same rows as a batch


@dataclass
class Batch:
    """The arguments of ``sample`` for a list of cases."""

    logits: mx.array
    columns: SamplingColumns
    positions: np.ndarray
    adjustments: Adjustments | None
    masks: TokenMasks | None

    def sample(
        self,
        function: SampleFunction,
        num_top_logprobs: int = 0,
        *,
        needs_logprobs: bool = True,
    ) -> Sampled:
        return function(
            self.logits,
            self.columns,
            self.positions,
            self.adjustments,
            self.masks,
            num_top_logprobs,
            needs_logprobs=needs_logprobs,
        )


def batch_of(cases: list[RowCase], dtype: mx.Dtype = mx.float32) -> Batch:
    """The cases as one batch; their logits are rounded to ``dtype``."""
    logits = mx.array(np.stack([case.logits for case in cases])).astype(dtype)
    for case, rounded in zip(cases, np.array(logits.astype(mx.float32)), strict=True):
        case.logits = rounded
    adjustments, masks = None, None
    if any(case.bias or case.counts for case in cases):
        adjustments = Adjustments.of(
            bias=[case.bias for case in cases],
            counts=[case.counts for case in cases],
            repetition=[case.repetition for case in cases],
            frequency=[case.frequency for case in cases],
            presence=[case.presence for case in cases],
        )
    masked = [case for case in cases if case.mask is not None]
    if masked:
        bits = np.stack([bits_of(case.mask) for case in masked])
        indices = {id(case): index for index, case in enumerate(masked)}
        masks = TokenMasks.of(bits, [indices.get(id(case), -1) for case in cases])
    names = ("temperature", "top_k", "top_p", "min_p")
    columns = SamplingColumns.of(
        **{name: [getattr(case, name) for case in cases] for name in names},
        seeds=[case.seed for case in cases],
    )
    positions = column([case.position for case in cases], np.uint32, 0)
    return Batch(logits, columns, positions, adjustments, masks)


def bits_of(mask: np.ndarray) -> np.ndarray:
    """A bool for each token, [V], as words of 32 bits."""
    packed = np.packbits(np.pad(mask, (0, -len(mask) % 32)), bitorder="little")
    return packed.view("<u4")


def random_case(random: np.random.Generator, vocabulary: int) -> RowCase:
    """A row with any combination of parameters, most of them off."""

    def one_of(*values):
        return values[random.integers(len(values))]

    def some_tokens() -> list[int]:
        count = min(vocabulary, one_of(1, 5, 40))
        return random.choice(vocabulary, count, replace=False).tolist()

    case = RowCase(
        logits=random.normal(0, one_of(0.5, 2, 4, 8), vocabulary).astype(np.float32),
        temperature=one_of(0.0, 0.3, 0.7, 1.0, 1.0, 2.0),
        top_k=one_of(0, 0, 0, 1, 40, 1500, vocabulary),
        top_p=one_of(1.0, 1.0, 0.95, 0.8, 0.3),
        min_p=one_of(0.0, 0.0, 0.0, 0.05, 0.5),
        seed=int(random.integers(2**63)),
        position=int(random.integers(2**31)),
    )
    if one_of(True, False, False):
        case.bias = {token: float(random.normal(0, 5)) for token in some_tokens()}
    if one_of(True, False, False):
        case.counts = {token: int(random.integers(4)) for token in some_tokens()}
        case.repetition, case.frequency, case.presence = 1.2, 0.3, 0.5
    if one_of(True, False, False):
        case.mask = random.random(vocabulary) < one_of(0.02, 0.5, 0.99)
        case.mask[random.integers(vocabulary)] = True
    return case
