"""Garbage collection of processes that have loaded what they keep."""

import gc


def freeze() -> None:
    """Exempt all objects there are from garbage collection, after a last one.

    Modules, models and tokenizers are some 90,000 objects, which a full collection would go
    through in the middle of a step, for 30 ms.
    """
    gc.collect()
    gc.freeze()
