"""Parameters of a batch as columns: one array for each, one element for each row."""

from collections.abc import Sequence

import numpy as np

# MLX compiles a kernel anew when an input comes to have fewer than this many elements (they
# are then passed in another address space): columns are padded to it.
MIN_ELEMENTS = 8


def column(values: Sequence, dtype: type, neutral: float) -> np.ndarray:
    """``values`` as an array of at least ``MIN_ELEMENTS``, filled up with ``neutral``."""
    missing = max(0, MIN_ELEMENTS - len(values))
    return np.pad(np.array(values, dtype), (0, missing), constant_values=neutral)
