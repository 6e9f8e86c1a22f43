"""Traces: conversations that come at some time, each with turns. Made from a seed, or read."""

import json
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Arrivals = Literal["poisson", "bursty"]


@dataclass(frozen=True)
class Turn:
    """What the user adds, what is answered, and the pause before it. Tokens and seconds."""

    user_tokens: int
    answer_tokens: int
    think: float = 0.0  # after the answer before


@dataclass(frozen=True)
class Conversation:
    """Turns that follow each other. Each prompt has the system prompt and all turns before.

    ``at``: seconds from the start of the trace. Conversations with the same ``system`` share
    that prompt, of ``system_tokens`` tokens.
    """

    at: float
    id: str
    system: str
    system_tokens: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Workload:
    """The distributions of a trace. Lengths are log-normal around these medians, in tokens.

    ``spread``: the standard deviation of the logarithm. ``systems``: how many system prompts
    there are; one conversation in two has the first one, one in four the second one.
    ``turns``: the mean number; ``think``: the mean pause, in seconds. A burst has
    ``burst`` conversations at one time.
    """

    system_tokens: int = 800
    user_tokens: int = 150
    answer_tokens: int = 300
    turns: float = 4.0
    think: float = 30.0
    spread: float = 0.8
    systems: int = 8
    max_tokens: int = 8000  # of the texts of one turn
    arrivals: Arrivals = "poisson"
    burst: float = 8.0

    def conversations(self, rate: float, count: int, seed: int) -> Iterator[Conversation]:
        """``count`` conversations, ``rate`` of them in a second.

        With the same seed, another rate changes the times of arrival alone.
        """
        when, what = random.Random(f"{seed} when"), random.Random(f"{seed} what")
        now, left = 0.0, 0
        for number in range(count):
            if self.arrivals == "poisson":
                now += when.expovariate(rate)
            elif left:
                left -= 1
            else:
                now += when.expovariate(rate / self.burst)
                left = _geometric(when, self.burst) - 1
            yield self._conversation(now, number, what)

    def _conversation(self, at: float, number: int, random_: random.Random) -> Conversation:
        system = min(_geometric(random_, 2.0), self.systems)
        turns = tuple(
            Turn(
                self._length(random_, self.user_tokens),
                self._length(random_, self.answer_tokens),
                random_.expovariate(1 / self.think) if i and self.think else 0.0,
            )
            for i in range(_geometric(random_, self.turns))
        )
        return Conversation(at, f"c{number}", f"s{system}", self.system_tokens, turns)

    def _length(self, random_: random.Random, median: int) -> int:
        length = random_.lognormvariate(math.log(median), self.spread)
        return min(max(round(length), 1), self.max_tokens)


def _geometric(random_: random.Random, mean: float) -> int:
    """At least 1."""
    if mean <= 1:
        return 1
    return 1 + int(math.log(1 - random_.random()) / math.log(1 - 1 / mean))


def write(conversations: Iterable[Conversation], file: Path) -> None:
    """Write a trace, a JSON object for each conversation in a line."""
    with file.open("w", encoding="utf-8") as lines:
        for conversation in conversations:
            lines.write(json.dumps(asdict(conversation)) + "\n")


def read(file: Path) -> list[Conversation]:
    """Read a trace, in the order of arrival.

    Raises:
        ValueError: a line is no conversation; the error names the line.
    """
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(_conversation_of(json.loads(line)))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{file}, line {number}: no conversation: {error!r}") from error
    return sorted(found, key=lambda conversation: conversation.at)


def _conversation_of(fields: dict) -> Conversation:
    turns = tuple(Turn(**turn) for turn in fields.pop("turns"))
    conversation = Conversation(**fields, turns=turns)
    if not turns:
        raise ValueError("it has no turns")
    lengths = [conversation.system_tokens]
    lengths += [n for turn in turns for n in (turn.user_tokens - 1, turn.answer_tokens - 1)]
    if min([conversation.at, *lengths, *(turn.think for turn in turns)]) < 0:
        raise ValueError("times and lengths cannot be negative; each turn has tokens")
    return conversation
