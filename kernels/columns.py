"""The parameters of a batch as columns: one array for a parameter, one element for a row."""

from collections.abc import Sequence

import numpy as np

# MLX passes an input of fewer elements in another address space, and compiles the kernel anew
# for it. So columns are padded to this length.
MIN_ELEMENTS = 8


def column(values: Sequence, dtype: type, neutral: float) -> np.ndarray:
    """``values`` as an array, padded with ``neutral`` to at least ``MIN_ELEMENTS``."""
    padded = np.full(max(MIN_ELEMENTS, len(values)), neutral, dtype)
    padded[: len(values)] = np.array(values, dtype)
    return padded
