"""The limit of the reasoning: from the request or the configuration to the engine."""

import dataclasses

import pytest
from support import tiny
from support.contract import chat

from mlxnode.config.tables import THINKING_BUDGET_MESSAGE
from mlxnode.engine.decode.markers import Marker
from mlxnode.messages.data import Generate, ThinkingLimit

MESSAGE = "I have to answer."


@pytest.fixture(scope="module")
def thinking_worker(start_worker, served_models, tool_model, tmp_path_factory):
    """Serves "thinker" without a limit, "limited" with one, and "plain" without thoughts."""
    plain = dataclasses.replace(served_models[0], id="plain", thinking_budget=30)
    thinker = dataclasses.replace(served_models[0], id="thinker", folder=tool_model.folder)
    limited = dataclasses.replace(
        thinker, id="limited", thinking_budget=30, thinking_budget_message=MESSAGE
    )
    # As Seed-OSS's: the template tells the model its limit.
    told = tiny.make_chat_model(
        tmp_path_factory.mktemp("models") / "told",
        template="{% if thinking_budget is defined %}Limit: {{ thinking_budget }}\n{% endif %}"
        + tiny.TOOL_TEMPLATE,
    )
    told = dataclasses.replace(limited, id="told", folder=told)
    with start_worker([thinker, limited, plain, told], {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def ask(thinking_worker):
    """The limit that the engine gets from a request."""
    thinking_worker.settle()

    def ask(model: str, **body) -> ThinkingLimit | None:
        chat(thinking_worker, model=model, extra_body=body)
        return thinking_worker.engine.next(Generate).sampling.thinking

    return ask


@pytest.fixture
def text(thinking_worker):
    return thinking_worker.engine.text


FIELDS = [
    ({"thinking_budget": 7}, 7),
    ({"thinking_budget": 0}, 0),
    ({"reasoning": {"max_tokens": 8}}, 8),
    ({"thinking": {"type": "enabled", "budget_tokens": 9}}, 9),
]


@pytest.mark.parametrize(("fields", "max_tokens"), FIELDS)
@pytest.mark.parametrize("model", ["thinker", "limited"])
def test_the_request_sets_the_limit(ask, model, fields, max_tokens):
    assert ask(model, **fields).max_tokens == max_tokens


def test_the_configuration_sets_the_limit_of_other_requests(ask, text):
    assert ask("thinker") is None
    limit = ask("limited")
    assert limit.max_tokens == 30
    assert text(limit.closing) == f"\n\n{MESSAGE}</think>"


@pytest.mark.parametrize(("fields", "max_tokens"), [({}, 30), *FIELDS])
def test_a_template_tells_the_limit(thinking_worker, fields, max_tokens):
    thinking_worker.settle()
    chat(thinking_worker, model="told", extra_body=fields)
    message = thinking_worker.engine.next(Generate)
    assert message.sampling.thinking.max_tokens == max_tokens
    prompt = thinking_worker.engine.text(message.prompt)
    assert prompt.startswith(f"Limit: {max_tokens}\n")


def test_the_engine_is_told_the_markers_and_the_end(ask, text):
    limit = ask("thinker", thinking_budget=5)
    assert [text([id for [id] in spelling]) for spelling in limit.starts] == ["<think>"]
    assert [text([id for [id] in spelling]) for spelling in limit.ends] == ["</think>"]
    assert text(limit.closing) == f"\n\n{THINKING_BUDGET_MESSAGE}</think>"
    assert text(limit.reclosing) == "</think>"
    assert not limit.is_open  # this template leaves the start to the model


def test_no_thought_needs_no_conclusion(ask, text):
    assert text(ask("limited", thinking_budget=0).closing) == "</think>"


def test_a_constrained_answer_is_open_where_the_prompt_is(ask, thinking_worker):
    form = {"type": "json_object"}
    options = {"response_format": form, "chat_template_kwargs": {"enable_thinking": True}}
    chat(thinking_worker, model="limited", extra_body=options)
    message = thinking_worker.engine.next(Generate)
    assert message.sampling.grammar and message.sampling.thinking.is_open
    after = message.sampling.grammar_after
    closing = message.sampling.thinking.closing
    assert any(Marker([end]).ends(list(closing)) for end in after)


def test_a_model_without_thoughts_has_no_limit(ask):
    assert ask("plain") is None
    assert ask("plain", thinking_budget=3) is None


def test_all_choices_have_the_limit(thinking_worker):
    thinking_worker.settle()
    chat(thinking_worker, model="limited", n=3)
    limits = [thinking_worker.engine.next(Generate).sampling.thinking for _ in range(3)]
    assert [limit.max_tokens for limit in limits] == [30] * 3
