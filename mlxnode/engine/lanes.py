"""The foreground and the background of one model: a runner each, of which one stands still.

A request in the background (``messages.Work.background``) is computed only while there is no
request in the foreground, of any model, but for a trickle. Its row stays where it is, with its
KV cache, while the other runner computes: to go on costs nothing. If the foreground needs the
memory, rows are given up, which go on later with the same tokens.
"""

from collections.abc import Iterator

import msgspec

from mlxnode.engine.work import RequestKey, Runner, Youngest
from mlxnode.figures import RunnerFigures
from mlxnode.messages.data import Embed, Failed, Generate

_SHARED = ("prefix_bytes", "prefix_entries")  # by both lanes


class Lanes:
    """All requests of one model. ``Stepper`` steps one of its two runners."""

    def __init__(self, foreground: Runner, background: Runner):
        """``background`` computes with the same weights, and is closed first."""
        self.foreground = foreground
        self.background = background

    @property
    def has_work(self) -> bool:
        return self.foreground.has_work or self.background.has_work

    @property
    def active(self) -> list[RequestKey]:
        """The requests that the next step works on."""
        lane = self.foreground if self.foreground.has_work else self.background
        return lane.active

    @property
    def youngest(self) -> Youngest | None:
        return self.background.youngest or self.foreground.youngest

    @property
    def kv_needed(self) -> int:
        """The two never compute at the same time."""
        return max(self.foreground.kv_needed, self.background.kv_needed)

    def add(
        self, key: RequestKey, message: Generate | Embed, arrived_at: float | None = None
    ) -> Failed | None:
        lane = self.background if message.background else self.foreground
        return lane.add(key, message, arrived_at)

    def abort(self, key: RequestKey) -> None:
        self.foreground.abort(key)
        self.background.abort(key)

    def fail(self) -> list[RequestKey]:
        """Both have computed with the weights and the cached prefixes of the failed step."""
        return [*self.foreground.fail(), *self.background.fail()]

    def measure_passes(self, context_length: int) -> Iterator[None]:
        yield from self.foreground.measure_passes(context_length)

    def reserve_activations(self, available: int, context_length: int) -> int:
        return self.foreground.reserve_activations(available, context_length)

    def pause(self, is_paused: bool) -> None:
        self.foreground.pause(is_paused)
        self.background.pause(is_paused)

    def drop_caches(self) -> None:
        """Memory is short: also rows that stand still give theirs up, as prefixes at first."""
        self.background.give_up()
        self.foreground.drop_caches()

    def figures(self) -> RunnerFigures:
        """Of both."""
        lanes = self.foreground.figures(), self.background.figures()
        sums = {
            name: getattr(lanes[0], name) + getattr(lanes[1], name)
            for name in RunnerFigures.__struct_fields__
            if name not in _SHARED
        }
        return msgspec.structs.replace(lanes[0], **sums)

    def do_idle_work(self) -> bool:
        return self.foreground.do_idle_work()

    def close(self) -> None:
        self.background.close()
        self.foreground.close()
