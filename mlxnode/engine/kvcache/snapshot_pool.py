"""The snapshots of all cached sequences of one model, and their bytes.

Sequences with a common prefix share its snapshots; the bytes of a snapshot count once.
"""

from collections.abc import Iterable, Sequence

from mlxnode.engine.kvcache.snapshot import Snapshot


class SnapshotPool:
    """Counts who has which snapshot. A path is the ascending snapshots of one sequence."""

    def __init__(self) -> None:
        self.nbytes = 0

    def add(self, path: list[Snapshot], snapshots: Iterable[Snapshot]) -> None:
        """Add ``snapshots`` to a path, but one for each length."""
        lengths = {snapshot.length for snapshot in path}
        for snapshot in snapshots:
            if snapshot.length not in lengths:
                lengths.add(snapshot.length)
                snapshot.num_holders += 1
                if snapshot.num_holders == 1:
                    self.nbytes += snapshot.nbytes
                path.append(snapshot)
        path.sort(key=lambda snapshot: snapshot.length)

    def remove(self, path: list[Snapshot], snapshot: Snapshot) -> None:
        """Take a snapshot out of a path."""
        path.remove(snapshot)
        snapshot.num_holders -= 1
        if snapshot.num_holders == 0:
            self.nbytes -= snapshot.nbytes

    def clear(self, path: list[Snapshot]) -> None:
        """Take all snapshots out of a path."""
        for snapshot in list(path):
            self.remove(path, snapshot)

    def evict_from(self, path: list[Snapshot]) -> bool:
        """Evict the least valuable snapshot that no other path has; False if there is none.

        The last one is the most valuable: the conversation goes on from there. Then come
        borders, and then those without which the widest gap would open.
        """
        lengths = [0, *(snapshot.length for snapshot in path)]
        values = {
            (i == len(path) - 1, snapshot.is_border, _gap(lengths, i), i): snapshot
            for i, snapshot in enumerate(path)
            if snapshot.num_holders == 1
        }
        if not values:
            return False
        self.remove(path, values[min(values)])
        return True


def _gap(lengths: Sequence[int], index: int) -> int:
    """The tokens between the neighbours of a snapshot."""
    return lengths[min(index + 2, len(lengths) - 1)] - lengths[index]
