"""A model that would think for ever answers over HTTP, as its node tells it to."""

import json
from typing import Any

import openai
import pytest
from support.node_process import API_KEY, NodeProcess
from support.notation_templates import FAMILIES
from support.scripted import END, ScriptedModel

from mlxnode.config.tables import THINKING_BUDGET_MESSAGE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TURNS = (
    "{% for m in messages %}<|turn|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n"
)
OPEN = TURNS + "<think>\n{% endif %}"  # as Qwen3's thinking models
OWN = TURNS + "{% endif %}"
MESSAGE = "I must answer now."
CLOSING = f"\n\n{MESSAGE}\n"  # and the marker, one token
THOUGHTS = "".join(f"<{number:03}> hm, " for number in range(60))
LIMIT = 45  # of the configuration
CLOSING_WITHOUT_BREAK = CLOSING.rstrip()
NOW = {"type": "function", "function": {"name": "now"}}


def ask(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


class Node:
    """A node with two scripted models. What they write depends on the position alone."""

    def __init__(self, root):
        self.models = {
            name: ScriptedModel(
                root / name, template, special=["<|turn|>"], added=["<think>", "</think>"]
            )
            for name, template in (("open", OPEN), ("own", OWN))
        }
        self.body = self.models["open"].script(ask("Think."), THOUGHTS)
        own = self.models["own"]
        self.starts = own.script(ask("Think."), f"<think>\n{THOUGHTS}")
        self.ends = own.script(ask("Think!"), f"<think>\nWell.\n</think>\n\nYes.{END}")
        self.says = own.script(ask("Say."), f"I do not think.{END}")
        self.channels = self._channels()
        for model in self.models.values():
            model.save()

    def _channels(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Two questions to a model that writes channels: it never ends one, and calls."""
        family = FAMILIES["gpt-oss"]
        model = ScriptedModel(
            self.models["own"].folder.with_name("channels"),
            family.template,
            special=[token for token in family.tokens if token != END],
        )
        self.models["channels"] = model
        start = "<|channel|>analysis<|message|>"
        # What is forced: the closing, <|end|>, <|start|> and the role.
        forced = "." * len(f"{CLOSING_WITHOUT_BREAK}12assistant")
        called = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}<|call|>"
        text = start + THOUGHTS[:LIMIT] + forced + called
        return (
            model.script(ask("Think."), start + THOUGHTS),
            model.script(ask("Call.") | {"tools": [NOW]}, text),
        )

    def config(self) -> str:
        limit = f'thinking_budget = {LIMIT}\nthinking_budget_message = "{MESSAGE}"\n'
        tables = [
            f'[api.models.{name}]\npath = "{model.folder}"\ntype = "chat"\n'
            for name, model in self.models.items()
        ]
        head = f'[api]\naddress = "127.0.0.1:0"\napi_key = "{API_KEY}"\n'
        open, own, channels = tables
        return head + open + limit + own + channels + limit + "[server]\nworkers = 1\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    root = tmp_path_factory.mktemp("thinking")
    node = Node(root)
    with NodeProcess(root, node.config()) as process:
        process.wait_ready()
        options = {"api_key": API_KEY, "max_retries": 0, "timeout": 120}
        with openai.OpenAI(base_url=f"{process.url}/v1", **options) as node.client:
            yield node


def answer(node: Node, model: str, body: dict[str, Any], **options):
    fields = {"temperature": 0, "max_tokens": 400, **body, **options}
    extra = {name: fields.pop(name) for name in list(fields) if name in EXTRA}
    return node.client.chat.completions.create(model=model, extra_body=extra, **fields)


EXTRA = ("thinking_budget", "reasoning", "thinking", "guided_choice")


def expected(limit: int, closing: str = CLOSING) -> tuple[str, str, int]:
    """Reasoning, content, and tokens of reasoning, of which the marker is one."""
    length = limit + len(closing) + 1
    reasoning = (THOUGHTS[:limit] + closing).strip()
    return reasoning, THOUGHTS[length:400].strip(), length


def read(completion) -> tuple[str, str, int]:
    message = completion.choices[0].message
    details = completion.usage.completion_tokens_details
    return message.reasoning_content, message.content.strip(), details.reasoning_tokens


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({}, LIMIT),
        ({"thinking_budget": 20}, 20),
        ({"reasoning": {"max_tokens": 100}}, 100),
        ({"thinking": {"type": "enabled", "budget_tokens": 1}}, 1),
    ],
)
def test_an_answer_comes_after_the_limit(node, fields, limit):
    completion = answer(node, "open", node.body, **fields)
    assert read(completion) == expected(limit)
    assert completion.usage.completion_tokens == 400
    assert completion.choices[0].finish_reason == "length"


def test_a_limit_of_none_leaves_no_thought(node):
    completion = answer(node, "open", node.body, thinking_budget=0)
    assert completion.choices[0].message.content.strip() == expected(0, "\n")[1]
    assert not getattr(completion.choices[0].message, "reasoning_content", None)


def test_a_stream_is_the_same(node):
    reasoning = content = ""
    stream = answer(
        node, "open", node.body, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            content += choice.delta.content or ""
        usage = chunk.usage
    tokens = usage.completion_tokens_details.reasoning_tokens
    assert (reasoning, content.strip(), tokens) == expected(LIMIT)


def test_all_choices_end_their_thoughts(node):
    completion = answer(node, "open", node.body, n=2, temperature=0.5, thinking_budget=10)
    for choice in completion.choices:
        message = choice.message
        assert (message.reasoning_content, message.content.strip()) == expected(10)[:2]


@pytest.mark.parametrize("max_tokens", [LIMIT, LIMIT + 5, LIMIT + len(CLOSING)])
def test_max_tokens_may_cut_the_closing(node, max_tokens):
    completion = answer(node, "open", node.body, max_tokens=max_tokens)
    [choice] = completion.choices
    whole = THOUGHTS[:LIMIT] + CLOSING
    assert choice.message.reasoning_content.strip() == whole[:max_tokens].strip()
    assert not choice.message.content and choice.finish_reason == "length"
    usage = completion.usage
    assert usage.completion_tokens == usage.completion_tokens_details.reasoning_tokens
    assert usage.completion_tokens == max_tokens


def test_a_constraint_applies_after_the_forced_end(node):
    """The model would write something else at these positions."""
    completion = answer(node, "open", node.body, guided_choice=["yes", "no"])
    [choice] = completion.choices
    assert choice.message.content in ("yes", "no") and choice.finish_reason == "stop"
    assert choice.message.reasoning_content == expected(LIMIT)[0]
    form = {"type": "json_object"}
    completion = answer(node, "open", node.body, response_format=form, thinking_budget=3)
    assert completion.choices[0].message.reasoning_content == expected(3)[0]
    content = completion.choices[0].message.content
    assert content.startswith("{")
    if completion.choices[0].finish_reason == "stop":
        json.loads(content)


def test_logprobs_tell_of_the_forced_tokens_too(node):
    completion = answer(node, "open", node.body, logprobs=True, top_logprobs=1)
    entries = completion.choices[0].logprobs.content
    text = THOUGHTS[:LIMIT] + CLOSING
    assert "".join(entry.token for entry in entries[: len(text)]) == text
    assert all(entry.logprob < -1 for entry in entries[LIMIT : LIMIT + 10])
    assert all(entry.logprob > -1 for entry in entries[:LIMIT])


def test_a_thought_that_the_model_starts_itself_is_limited(node):
    completion = answer(node, "own", node.starts, thinking_budget=30)
    message = completion.choices[0].message
    closing = f"\n\n{THINKING_BUDGET_MESSAGE}\n"
    # The line break after the start is a token of the thought.
    assert message.reasoning_content == (THOUGHTS[:29] + closing).strip()
    assert message.content.strip() == THOUGHTS[29 + len(closing) + 1 : 398].strip()


@pytest.mark.parametrize("budget", [None, 8, 50])
def test_a_model_that_ends_its_thought_is_left_alone(node, budget):
    completion = answer(node, "own", node.ends, thinking_budget=budget)
    [choice] = completion.choices
    assert (choice.message.reasoning_content, choice.message.content) == ("Well.", "Yes.")
    assert choice.finish_reason == "stop"


def test_a_model_that_does_not_think_is_left_alone(node):
    completion = answer(node, "own", node.says, thinking_budget=0)
    assert completion.choices[0].message.content == "I do not think."
    assert completion.usage.completion_tokens_details.reasoning_tokens == 0


def test_channels_go_on_with_the_one_for_the_content(node):
    thinks, _ = node.channels
    completion = answer(node, "channels", thinks)
    message = completion.choices[0].message
    assert message.reasoning_content == THOUGHTS[:LIMIT] + CLOSING_WITHOUT_BREAK
    forced = len(f"{CLOSING_WITHOUT_BREAK}12assistant3final4")
    header = len("1analysis2")
    assert message.content.strip() == THOUGHTS[LIMIT + forced : 400 - header].strip()


def test_channels_may_go_on_with_a_call(node):
    _, calls = node.channels
    completion = answer(node, "channels", calls)
    [choice] = completion.choices
    [call] = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("now", "{}")
    assert choice.message.reasoning_content == THOUGHTS[:LIMIT] + CLOSING_WITHOUT_BREAK
    assert choice.finish_reason == "tool_calls"
