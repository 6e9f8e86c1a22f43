"""Garbage collection in a process that has loaded its long-lived objects."""

import gc


def freeze() -> None:
    """Collect garbage one last time, then exempt all existing objects from collection.

    Modules, models and tokenizers are about 90,000 objects. A full collection in the middle of
    a step would visit all of them, for 30 ms.
    """
    gc.collect()
    gc.freeze()


def collect_frozen() -> None:
    """Collect also what was exempt: a model that is unloaded is full of circles."""
    gc.unfreeze()
    freeze()
