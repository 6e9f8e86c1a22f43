"""The emulator's functions of float have the errors that Metal's specification allows."""

import math

import mlx.core as mx
import numpy as np
import pytest
from metal.bodies import run_source

ARGUMENTS = np.concatenate([np.linspace(0.01, 30, 99), [1.0, 0.5, 2.0, 1e-6, 80.0]])
X = ARGUMENTS.astype(np.float32)
ACCURACIES = ("high", "low", "mixed")


def evaluate(call: str, accuracy: str, x: np.ndarray = X) -> np.ndarray:
    source = f"uint i = thread_position_in_grid.x; if (i < {len(x)}) out[i] = {call};"
    run = run_source(
        source, mx.array(x), threads=128, shape=(len(x),), accuracy=accuracy, checked=False
    )
    return np.array(run.outputs[0]).astype(np.float64)


def ulp(right: np.ndarray) -> np.ndarray:
    return np.exp2(np.floor(np.log2(np.abs(right))) - 23)


def near_one(inside: float, ulps: float):
    """An absolute error in [0.5, 2], units in the last place elsewhere."""
    x = X.astype(np.float64)
    return lambda right: np.where((x >= 0.5) & (x <= 2), inside, ulps * ulp(right))


# The function in Metal, in float64, and the largest error by the tables 8.1 and 8.2.
BOUNDS = {
    "exp2(x[i])": (np.exp2, lambda right: (3 + np.floor(2 * X)) * ulp(right)),
    "exp2(-x[i])": (lambda x: np.exp2(-x), lambda right: (3 + np.floor(2 * X)) * ulp(right)),
    "fast::exp(-x[i])": (
        lambda x: np.exp(-x),
        lambda right: (3 + np.floor(2 * X)) * ulp(right),
    ),
    "log(x[i])": (np.log, near_one(2**-21, 3)),
    "log2(x[i])": (np.log2, near_one(2**-22, 2)),
    "precise::exp2(x[i])": (np.exp2, lambda right: 4 * ulp(right)),
    "precise::pow(x[i], 1.5f)": (lambda x: x**1.5, lambda right: 16 * ulp(right)),
    "precise::sqrt(x[i])": (np.sqrt, lambda right: 0.5 * ulp(right)),
    "rsqrt(x[i])": (lambda x: x**-0.5, lambda right: 2 * ulp(right)),
    "divide(x[i], 3.0f)": (lambda x: x / 3, lambda right: 2.5 * ulp(right)),
    "x[i] / 3.0f": (lambda x: x / 3, lambda right: 0.5 * ulp(right)),
}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("call", BOUNDS)
def test_errors_reach_the_bound_and_stay_below(call):
    function, bound_of = BOUNDS[call]
    with np.errstate(divide="ignore"):
        right = function(X.astype(np.float64))
        bound = bound_of(np.where(right == 0, 1, right))
    errors = {each: (evaluate(call, each) - right) / bound for each in ACCURACIES}
    assert all(np.abs(each).max() <= 1 for each in errors.values())
    is_correctly_rounded = bound_of(np.ones(len(X)))[0] == 0.5 * 2.0**-23
    if not is_correctly_rounded:
        assert errors["high"].min() > 0.2
        assert errors["low"].max() < -0.2
        assert errors["mixed"].min() < -0.2 < 0.2 < errors["mixed"].max()


@pytest.mark.parametrize("accuracy", ["library", *ACCURACIES])
def test_subnormal_arguments_and_results_are_zero(accuracy):
    tiny = np.array([1e-39, 1e-45, -1e-40], np.float32)
    assert evaluate("x[i] + x[i]", accuracy, tiny).tolist() == [0, 0, 0]
    assert evaluate("x[i] > 0.0f ? 1.0f : 0.0f", accuracy, tiny).tolist() == [0, 0, 0]
    assert evaluate("log2(x[i])", accuracy, np.abs(tiny)).tolist() == [-math.inf] * 3
    assert (
        evaluate("exp2(x[i])", accuracy, np.float32([-127.5, -140, -149])).tolist() == [0] * 3
    )


@pytest.mark.parametrize("accuracy", ACCURACIES)
def test_infinities_and_nan_stay(accuracy):
    special = np.array([np.inf, -np.inf, np.nan], np.float32)
    result = evaluate("exp2(x[i])", accuracy, special)
    assert result[0] == math.inf
    assert result[1] == 0
    assert math.isnan(result[2])
