"""The writer of the Responses format by itself: waits, failures, stores, sealed thoughts."""

import asyncio

import pytest
from support.named_events import read_events
from support.responses_grammar import check_stream

from mlxnode.server.answer.choice import ChoiceDelta
from mlxnode.server.answer.events import (
    CallArguments,
    CallBegun,
    CallEnded,
    Content,
    Event,
    Reasoning,
)
from mlxnode.server.answer.usage import TokenCounts
from mlxnode.server.errors import EngineFailed
from mlxnode.server.formats.responses.answers import Response, ResponseReasoning, ResponseText
from mlxnode.server.formats.responses.output import ItemForms
from mlxnode.server.formats.responses.writer import ResponsesWriter
from mlxnode.server.formats.thoughts import seal, unseal

USAGE = TokenCounts(prompt=3, cached=1, completion=2, reasoning=0)


def make_writer(keep=None, **forms) -> ResponsesWriter:
    draft = Response(
        id="resp_" + "0" * 32,
        created_at=1,
        model="m",
        parallel_tool_calls=True,
        reasoning=ResponseReasoning(),
        store=keep is not None,
        temperature=1.0,
        text=ResponseText({"type": "text"}),
        tool_choice="auto",
        tools=[],
        top_p=1.0,
        truncation="disabled",
        metadata={},
    )
    return ResponsesWriter(draft, ItemForms(tools={}, **forms), keep)


def delta(*events: Event, finish=None) -> ChoiceDelta:
    return ChoiceDelta(index=0, events=list(events), finish_reason=finish)


def frames(writer: ResponsesWriter, chunks) -> bytes:
    return b"".join(map(writer.frame, chunks))


def test_writer_counts_the_events_that_keep_a_stream_alive():
    writer = make_writer()
    stream = frames(writer, writer.opening_chunks(USAGE)) + writer.keep_alive()
    stream += frames(writer, writer.chunks(delta(Content("a")))) + writer.keep_alive()
    stream += frames(writer, writer.chunks(delta(Content("b"), finish="stop")))
    final = check_stream(read_events(stream + frames(writer, writer.closing_chunks(USAGE))))
    assert final["output"][0]["content"][0]["text"] == "ab"
    assert final["usage"]["input_tokens_details"]["cached_tokens"] == 1


@pytest.mark.parametrize("events", [(), (Content("a"),), (Reasoning("a"), Content("b"))])
def test_writer_ends_a_failed_stream_with_what_is_done(events):
    writer = make_writer()
    stream = frames(writer, writer.opening_chunks(USAGE))
    stream += frames(writer, writer.chunks(delta(*events)))
    final = check_stream(read_events(stream + writer.failure(EngineFailed("It broke"))))
    assert final["error"] == {"code": "server_error", "message": "It broke"}
    assert len(final["output"]) == max(len(events) - 1, 0)


@pytest.mark.parametrize(
    ("arguments", "status"), [('{"a": 1}', "completed"), ('{"a": ', "incomplete")]
)
@pytest.mark.parametrize("is_apart", [False, True])
def test_writer_tells_whether_a_cut_call_is_whole(arguments, status, is_apart):
    writer = make_writer()
    stream = frames(writer, writer.opening_chunks(USAGE))
    call = (CallBegun(0, "call_1", "f"), CallArguments(0, arguments), CallEnded(0))
    deltas = [delta(*call, finish="length")]
    if is_apart:
        deltas = [delta(*call), delta(finish="length")]
    for each in deltas:
        stream += frames(writer, writer.chunks(each))
    final = check_stream(read_events(stream + frames(writer, writer.closing_chunks(USAGE))))
    assert final["status"] == "incomplete" and final["output"][0]["status"] == status


@pytest.mark.parametrize("is_kept", [False, True])
def test_writer_tells_whether_the_answer_is_stored(is_kept):
    kept: list[Response] = []

    async def keep(response: Response) -> bool:
        kept.append(response)
        return is_kept

    writer = make_writer(keep)
    writer.chunks(delta(Content("a"), finish="stop"))
    [closing] = writer.closing_chunks(USAGE)
    asyncio.run(writer.before_end())
    assert kept == [closing.response] and closing.response.store is is_kept


@pytest.mark.parametrize("text", ["", "a", "Grüezi 👋🏽\n", "x" * 100_000])
def test_sealed_thoughts_are_read_again(text):
    assert unseal(seal(text)) == text


@pytest.mark.parametrize(
    "foreign", ["", "gAAAAABo", "mlxnode1.", "mlxnode1.!", "mlxnode1.gA==", "mlxnode2.YQ=="]
)
def test_foreign_thoughts_are_not_read(foreign):
    assert unseal(foreign) in (None, "")
