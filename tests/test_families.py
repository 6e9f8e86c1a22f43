"""The language of each family over HTTP, from models that write what a family writes.

Each test is a column of the families' table in docs/models.md.
"""

import contextlib
import json
from collections.abc import Iterator

import openai
import pytest
from support.families_table import write_cell
from support.family_scripts import DONE, RESULT, THOUGHT, FamilyScripts, compact, turn
from support.node_process import API_KEY, NodeProcess
from support.notation_pieces import NOW, ROME, Sample
from support.notation_templates import FAMILIES
from support.scripted import ScriptedModel

pytestmark = [pytest.mark.slow, pytest.mark.families, pytest.mark.timeout(600)]

NAMES = sorted(FAMILIES)
LIMIT = 1000  # tokens of an answer: a byte each


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> dict[str, FamilyScripts]:
    root = tmp_path_factory.mktemp("families")
    return {
        name: FamilyScripts(FAMILIES[name], ScriptedModel.of(root / name, FAMILIES[name]))
        for name in NAMES
    }


@pytest.fixture(scope="module")
def client(scripts, tmp_path_factory):
    """One node that serves every family."""
    config = f'[api]\naddress = "127.0.0.1:0"\napi_key = "{API_KEY}"\n'
    for name, family in scripts.items():
        config += f'[api.models."{name}"]\npath = "{family.folder}"\ntype = "chat"\n'
    with NodeProcess(tmp_path_factory.mktemp("node"), config) as process:
        process.wait_ready(300)
        options = {"api_key": API_KEY, "max_retries": 0, "timeout": 120}
        with openai.OpenAI(base_url=f"{process.url}/v1", **options) as client:
            yield client


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@contextlib.contextmanager
def cell(name: str, column: str, note: str = "") -> Iterator[None]:
    """Note in the families' table whether the block passes."""
    try:
        yield
    except BaseException as error:
        write_cell(name, column, "no", str(error))
        raise
    write_cell(name, column, "yes", note)


def ask(client, name, body, **options):
    body = {"temperature": 0, "max_tokens": LIMIT} | body | options
    return client.chat.completions.create(model=name, **body)


def told(message) -> tuple[str, str, list]:
    """Content, reasoning and calls of a message."""
    calls = [
        (call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or []
    ]
    return message.content or "", getattr(message, "reasoning_content", None) or "", calls


def expected(sample: Sample) -> tuple[str, str, list]:
    return sample.content, sample.reasoning, list(sample.calls)


def finish_of(sample: Sample) -> str:
    return "tool_calls" if sample.calls else "stop"


@pytest.mark.long
def test_samples_are_parsed(client, scripts, name):
    with cell(name, "parsed"):
        for sample, body in scripts[name].samples:
            [choice] = ask(client, name, body).choices
            assert told(choice.message) == expected(sample)
            assert choice.finish_reason == finish_of(sample)


def test_samples_are_streamed(client, scripts, name):
    with cell(name, "streamed"):
        for sample, body in scripts[name].samples:
            content, reasoning, calls, finish = "", "", {}, None
            for chunk in ask(client, name, body, stream=True):
                [choice] = chunk.choices
                content += choice.delta.content or ""
                reasoning += getattr(choice.delta, "reasoning_content", None) or ""
                for call in choice.delta.tool_calls or []:
                    known = calls.setdefault(call.index, ["", ""])
                    known[0] += call.function.name or ""
                    known[1] += call.function.arguments or ""
                finish = choice.finish_reason or finish
            called = [(name, json.loads(arguments)) for name, arguments in calls.values()]
            assert (content, reasoning, called) == expected(sample)
            assert finish == finish_of(sample)


def test_calls_are_forced(client, scripts, name):
    """A call in the family's own notation passes, and a model that wants none has to call."""
    own = scripts[name]
    with cell(name, "forced"):
        [choice] = ask(client, name, own.required).choices
        assert told(choice.message)[2] == [ROME]
        [choice] = ask(client, name, own.forced).choices
        [(called, arguments)] = told(choice.message)[2]
        assert (called, set(arguments)) == ("set_mode", {"mode", "is_loud", "level"})
        assert arguments["mode"] in ("on", "off") and isinstance(arguments["is_loud"], bool)
        assert arguments["level"] in (1, 2, 3)
        assert choice.finish_reason == "tool_calls"


def test_history_is_told_in_an_agent_loop(client, scripts, name):
    own = scripts[name]
    messages = list(own.turns[0]["messages"])
    with cell(name, "history"):
        for call, body in zip((ROME, NOW), own.turns, strict=False):
            answer = ask(client, name, {**body, "messages": messages}).choices[0].message
            content, reasoning, calls = told(answer)
            assert (content, calls) == ("", [call])
            [made] = answer.tool_calls
            assert made.function.arguments == compact(call[1])
            messages += turn(call, made.id, reasoning)
        [choice] = ask(client, name, {**own.turns[2], "messages": messages}).choices
        assert told(choice.message)[::2] == (DONE, [])
        prompt = own.prompt({**own.turns[2], "messages": messages})
        assert prompt.count(RESULT.strip()) == 2 and "get_weather" in prompt


def test_call_that_is_cut_leaves_no_trace(client, scripts, name):
    with cell(name, "cut"):
        [choice] = ask(client, name, scripts[name].cut).choices
        content, _, calls = told(choice.message)
        assert (content, calls, choice.finish_reason) == ("", [], "length")


def test_thoughts_are_told_from_the_answer(client, scripts, name):
    own = scripts[name]
    thinking = own.notation.thinking
    with cell(name, "thinking", f"`{thinking.start.strip()}`" if thinking else "none"):
        if thinking is not None:
            [choice] = ask(client, name, own.thought).choices
            assert told(choice.message) == (DONE, THOUGHT, [])


def test_notation_has_its_source(scripts, name):
    source = scripts[name].notation.source
    with cell(name, "calls", source):
        assert source == FAMILIES[name].source
