"""What is found of a template's switches, and what a request's wishes become."""

import pytest

from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.renderer import Renderer
from mlxnode.server.prompt.switches import EFFORTS, Switches
from mlxnode.server.prompt.templates import ChatTemplate
from tests.support.notation_wrapper import make_wrapper

ASKED = [{"role": "user", "content": "Hi"}]
HEAD = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
TEMPLATES = {
    "nothing": HEAD,
    # The words are there, but they change nothing.
    "only words": HEAD + "{# enable_thinking, thinking, reasoning_effort #}",
    "qwen": HEAD
    + "{% if enable_thinking is defined and not enable_thinking %}<t></t>{% endif %}",
    "deepseek": HEAD + "{% if thinking %}<t>{% else %}<t></t>{% endif %}",
    "other name": HEAD + "{% if use_reasoning %}<t>{% endif %}",
    "gpt_oss": HEAD + "Reasoning: {{ reasoning_effort or 'medium' }}",
    "solar": HEAD + "{% if reasoning_effort in ['low', 'minimal'] %}<t></t>{% endif %}",
    "none or high": HEAD
    + "{% set e = reasoning_effort or 'none' %}{% if e not in ['none', 'high'] %}"
    "{{ raise_exception('no') }}{% endif %}{{ e }}",
    "seed": HEAD
    + "{% if thinking_budget is defined %}Budget: {{ thinking_budget }}{% endif %}",
    "nemotron": "{% set ns = namespace(on=true) %}{% for m in messages %}"
    "{% if '/no_think' in m.content %}{% set ns.on = false %}{% endif %}"
    "[{{ m.role }}]{{ m.content.replace('/no_think', '').replace('/think', '').strip() }}"
    "{% endfor %}[assistant]{{ '<t>' if ns.on else '<t></t>' }}",
}


def switches_of(name: str, *, thinks: bool = True) -> Switches:
    return Switches(Renderer(make_wrapper(TEMPLATES[name])), thinks=thinks)


def settled(name: str, *, thinks: bool = True, is_constrained: bool = False, **wishes):
    conversation = Conversation(ASKED, **wishes)
    return switches_of(name, thinks=thinks).settle(conversation, is_constrained=is_constrained)


@pytest.mark.parametrize(
    ("name", "variable", "effort", "budget", "has_words"),
    [
        ("nothing", None, None, None, False),
        ("only words", None, None, None, False),
        ("qwen", "enable_thinking", None, None, False),
        ("deepseek", "thinking", None, None, False),
        ("other name", "use_reasoning", None, None, False),
        ("gpt_oss", None, "reasoning_effort", None, False),
        ("solar", None, "reasoning_effort", None, False),
        ("seed", None, None, "thinking_budget", False),
        ("nemotron", None, None, None, True),
    ],
)
def test_switches_are_found_by_rendering(name, variable, effort, budget, has_words):
    found = switches_of(name)
    assert (found.variable, found.effort, found.budget, found.has_words) == (
        variable,
        effort,
        budget,
        has_words,
    )


@pytest.mark.parametrize(
    ("name", "efforts"),
    [
        ("gpt_oss", {"minimal": "low", "low": "low", "high": "high", "xhigh": "high"}),
        ("gpt_oss", {"none": "low", "max": "high", "medium": "medium"}),
        ("solar", {"minimal": "minimal", "none": "minimal", "medium": "medium"}),
        ("none or high", {"none": "none", "minimal": "high", "medium": "high", "max": "high"}),
    ],
)
def test_an_effort_becomes_the_nearest_that_the_template_knows(name, efforts):
    found = {effort: settled(name, reasoning_effort=effort) for effort in efforts}
    told = {effort: one.variables["reasoning_effort"] for effort, one in found.items()}
    assert told == efforts


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_effort_switches_the_reasoning_on_or_off(effort):
    is_on = effort != "none"
    assert settled("qwen", reasoning_effort=effort).variables == {"enable_thinking": is_on}
    assert settled("deepseek", reasoning_effort=effort).variables == {"thinking": is_on}


def test_a_wish_is_written_in_words_where_the_template_reads_them():
    off = settled("nemotron", wants_thinking=False)
    assert off.messages == [{"role": "system", "content": "/no_think"}, *ASKED]
    assert settled("nemotron").messages == ASKED


@pytest.mark.parametrize("wish", [{"wants_thinking": False}, {"reasoning_effort": "none"}])
def test_reasoning_without_a_switch_ends_at_once(wish):
    assert settled("nothing", **wish).thinking_budget == 0
    assert settled("gpt_oss", **wish).thinking_budget == 0
    assert settled("nothing", thinks=False, **wish).thinking_budget is None
    assert settled("qwen", **wish).thinking_budget is None


def test_a_budget_reaches_the_template():
    assert settled("seed", thinking_budget=700).variables == {"thinking_budget": 700}
    assert settled("seed", reasoning_effort="low").thinking_budget == 1024
    assert settled("seed", reasoning_effort="high").variables == {}
    assert settled("seed", wants_thinking=False).variables == {"thinking_budget": 0}


def test_variables_of_the_request_win_and_unknown_ones_are_dropped():
    given = {"enable_thinking": True, "unknown": 1}
    one = settled("qwen", variables=given, reasoning_effort="none", is_constrained=True)
    assert one.variables == {"enable_thinking": True}


def test_a_form_switches_the_reasoning_off_unless_it_is_asked_for():
    assert settled("qwen", is_constrained=True).variables == {"enable_thinking": False}
    asked = settled("qwen", is_constrained=True, wants_thinking=True)
    assert asked.variables == {"enable_thinking": True}


def test_what_changes_nothing_is_known():
    nothing = switches_of("nothing", thinks=False)
    assert not nothing.takes_effort("none") and not nothing.takes_switch
    assert not nothing.takes_budget and not nothing.takes_variable("enable_thinking", False)
    thinking = switches_of("nothing")
    assert thinking.takes_effort("none") and not thinking.takes_effort("low")
    assert thinking.takes_switch and thinking.takes_budget
    assert thinking.takes_variable("thinking", False)
    assert not thinking.takes_variable("thinking", "deeply")


@pytest.mark.parametrize(
    ("tail", "expects"),
    [
        # Qwen3: the model opens its thoughts, unless the prompt closes them.
        ("{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}", True),
        # Qwen3.5: the prompt does both.
        ("{{ '<think></think>' if enable_thinking is false else '<think>' }}", False),
        # DeepSeek V3.1: no thoughts unless they are asked for.
        ("{{ '<think>' if enable_thinking else '<think></think>' }}", False),
        ("", False),
    ],
)
def test_thoughts_are_expected_where_the_model_opens_them_itself(tail, expects):
    template = ChatTemplate(make_wrapper(HEAD + tail, ("<think>", "</think>")))
    conversation = Conversation(ASKED)
    assert template.expects_thoughts(conversation) is expects
    off = Conversation(ASKED, variables={"enable_thinking": False})
    assert not template.expects_thoughts(off)
