"""The random numbers: the published vectors, and independence."""

import numpy as np
import pytest

from mlxnode.kernels.philox import philox, uniform

# Known answers of the authors' Random123 library, philox4x32 with 10 rounds.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_numbers(counter, key, expected):
    counter, key = np.array(counter, np.uint32), np.array(key, np.uint32)
    assert philox(counter[:, None], key[:, None])[:, 0].tolist() == expected


def numbers(seeds, positions) -> np.ndarray:
    seeds, positions = np.broadcast_arrays(seeds, positions)
    return uniform(seeds.astype(np.uint64), positions.astype(np.uint32)).astype(np.float64)


def test_uniform_is_a_multiple_of_2_to_the_minus_23_below_one():
    drawn = numbers(7, np.arange(100_000))
    assert drawn.min() >= 0
    assert drawn.max() <= 1 - 2.0**-23
    assert (drawn * 2**23 == np.round(drawn * 2**23)).all()


@pytest.mark.parametrize("of", ["positions", "seeds", "high halves of seeds"])
def test_uniform_numbers_are_independent(of):
    count = 100_000
    index = np.arange(count)
    drawn = {
        "positions": lambda: numbers(3, index),
        "seeds": lambda: numbers(index, 3),
        "high halves of seeds": lambda: numbers(index.astype(np.uint64) << 32, 3),
    }[of]()
    # Pairs of neighbours over a grid: uniform alone, and independent of each other.
    cells = (drawn[:-1] * 16).astype(int) * 16 + (drawn[1:] * 16).astype(int)
    observed = np.bincount(cells, minlength=256)
    mean = (count - 1) / 256
    chi2 = ((observed - mean) ** 2 / mean).sum()
    assert abs(chi2 - 255) < 5 * np.sqrt(2 * 255)


def test_uniform_depends_on_the_whole_seed():
    seeds = np.array([0, 1, 2**31, 2**32, 2**63, 2**64 - 1], np.uint64)
    assert len(set(uniform(seeds, np.zeros(6, np.uint32)).tolist())) == 6
