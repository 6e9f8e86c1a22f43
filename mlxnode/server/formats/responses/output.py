"""The items of an answer, from the stream of what the model writes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlxnode.server.answer.choice import ChoiceDelta, ScoredToken
from mlxnode.server.answer.events import CallArguments, CallBegun, CallEnded, Content, Reasoning
from mlxnode.server.answer.events import Event as Written
from mlxnode.server.formats.chat.answers import TokenLogprob
from mlxnode.server.formats.chat.logprobs import LogprobWriter
from mlxnode.server.formats.responses.answers import ItemStatus, OutputItem, ReasoningItem
from mlxnode.server.formats.responses.blocks import (
    Block,
    CallBlock,
    MessageBlock,
    Place,
    SummaryBlock,
    ThoughtBlock,
)
from mlxnode.server.formats.responses.events import Event


@dataclass(frozen=True)
class ToolAddress:
    """Where the client finds a function: its name, in a tool of type namespace or in none."""

    name: str
    namespace: str | None = None


@dataclass(frozen=True, kw_only=True)
class ItemForms:
    """How the request wants items: thoughts as summaries, or sealed; the tools by their names.

    ``logprobs`` writes the log-probabilities of messages; None: they have none.
    """

    summarises: bool = False
    seals: bool = False
    tools: Mapping[str, ToolAddress]
    logprobs: LogprobWriter | None = None


class Output:
    """The items of one answer. An item ends where the next one begins, or with the answer."""

    def __init__(self, answer: str, forms: ItemForms):
        """``answer`` is the part of the answer's id that the ids of its items have, too."""
        self.items: list[OutputItem] = []  # those that are done
        self._answer = answer
        self._forms = forms
        self._open: Block | None = None
        self._tokens: list[ScoredToken] = []  # of a message, not reported yet

    def write(self, delta: ChoiceDelta) -> Iterator[Event]:
        """The events of new output; the last output ends all."""
        self._tokens += [scored for scored in delta.tokens if not scored.is_reasoning]
        for written in delta.events:
            yield from self._write(written)
        if delta.finish_reason is not None:
            yield from self._finish(is_cut=delta.finish_reason == "length")

    def _write(self, written: Written) -> Iterator[Event]:
        match written:
            case Content(text):
                block = self._open
                if not isinstance(block, MessageBlock):
                    block = MessageBlock(self._place("msg"))
                    yield from self._begin(block)
                yield from block.add(text, self._take_logprobs())
            case Reasoning(text):
                block = self._open
                if not isinstance(block, ThoughtBlock):
                    kind = SummaryBlock if self._forms.summarises else ThoughtBlock
                    block = kind(self._place("rs"), seals=self._forms.seals)
                    yield from self._begin(block)
                yield from block.add(text)
            case CallBegun(_, id, name):
                tool = self._forms.tools.get(name, ToolAddress(name))
                place = self._place("fc")
                yield from self._begin(CallBlock(place, id, tool.name, tool.namespace))
            case CallArguments(_, text) if isinstance(self._open, CallBlock):
                yield from self._open.add(text)
            case CallArguments() | CallEnded():
                pass  # whether a call is complete shows with what follows

    def _finish(self, *, is_cut: bool) -> Iterator[Event]:
        block = self._open
        if isinstance(block, CallBlock):
            is_cut = is_cut and not _is_complete(block.text)
        elif not isinstance(block, MessageBlock) and not is_cut and not self._has_spoken:
            # Clients look for a message, or for a call, in an answer that has come to its end.
            yield from self._begin(MessageBlock(self._place("msg")))
        yield from self._end("incomplete" if is_cut else "completed")

    @property
    def _has_spoken(self) -> bool:
        return any(not isinstance(item, ReasoningItem) for item in self.items)

    def _begin(self, block: Block) -> Iterator[Event]:
        yield from self._end("completed")
        self._open = block
        yield from block.begin()

    def _end(self, status: ItemStatus) -> Iterator[Event]:
        block, self._open = self._open, None
        if block is not None:
            yield from block.end(status)
            self.items.append(block.item(status))

    def _place(self, prefix: str) -> Place:
        index = len(self.items) + (self._open is not None)
        return Place(f"{prefix}_{self._answer}{index:04x}", index)

    def _take_logprobs(self) -> list[TokenLogprob]:
        tokens, self._tokens = self._tokens, []
        writer = self._forms.logprobs
        return [] if writer is None else writer.write(tokens).content


def _is_complete(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False
