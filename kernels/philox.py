"""Random numbers as a function of (seed, position), without a state between steps.

Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
(SC 2011). ``sample.metal`` computes the same numbers on the device.
"""

import numpy as np

_ROUNDS = 10
_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
_KEY_STEPS = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """128 random bits for each pair of a counter and a key.

    Shapes:
        counter [4, N] uint32, key [2, N] uint32 -> [4, N] uint32
    """
    counter, key = counter.astype(np.uint64), key.astype(np.uint64)
    for _ in range(_ROUNDS):
        product = _MULTIPLIERS * counter[::2]  # [2, N], 64 bits
        mixed = (product >> _HALF)[::-1] ^ counter[1::2] ^ key
        low = (product & _LOW)[::-1]
        counter = np.stack([mixed[0], low[0], mixed[1], low[1]])
        key = (key + _KEY_STEPS) & _LOW
    return counter.astype(np.uint32)


def uniform(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each pair of a seed and a position.

    The numbers are multiples of 2**-23, at most 1 - 2**-23: a float32 total times such a number
    stays below the total after rounding.

    Shapes:
        seeds [N] uint64, positions [N] uint32 -> [N] float32
    """
    counter = np.zeros((4, len(seeds)), np.uint32)
    counter[0] = positions
    words = philox(counter, np.stack([seeds & _LOW, seeds >> _HALF]))[0]
    return (words >> np.uint32(9)).astype(np.float32) * np.float32(2.0**-23)
