"""Chat templates of every kind are rendered to read a notation off them."""

import pytest
from support.notation_templates import CHATML, FAMILIES
from support.notation_wrapper import make_wrapper

from mlxnode.server.deriving.derive import derive_notation
from mlxnode.server.deriving.probe import CONTENT, FORMS, Probe

QWEN = FAMILIES["qwen2.5"]
PLAIN = FAMILIES["lfm2"].template


def test_probe_shows_what_follows_the_question():
    probe = Probe(make_wrapper(QWEN.template, QWEN.tokens))
    answered = probe.answer(content=CONTENT)
    assert answered == f"<|im_end|>\n<|im_start|>assistant\n{CONTENT}<|im_end|>\n"
    assert probe.after_question(starts_answer=True) == "<|im_end|>\n<|im_start|>assistant\n"


def test_probe_has_no_answer_of_a_template_that_drops_something():
    dropped = QWEN.template.replace("(a | tojson)", "'{}'")
    probe = Probe(make_wrapper(dropped, QWEN.tokens))
    assert probe.calls([("qzfirst", {"qzkeya": "x"}, "qzid00000")], FORMS[0]) is None
    assert probe.calls([("qzfirst", {}, "qzid00000")], FORMS[0]) is not None
    silent = Probe(make_wrapper("{{ messages[0].role }}"))
    assert silent.answer(content=CONTENT) is None


@pytest.mark.parametrize(
    ("template", "tells"),
    [
        (QWEN.template, True),
        (QWEN.template.replace("for tool in tools or []", "for tool in []"), False),
        ("{% if tools %}{{ raise_exception('no') }}{% endif %}" + QWEN.template, False),
        # It cannot do without tools, as those that are one of a model's two templates.
        (QWEN.template.replace("tools or []", "tools"), True),
    ],
)
def test_probe_knows_if_a_template_tells_the_tools(template, tells):
    wrapper = make_wrapper(template, QWEN.tokens)
    assert Probe(wrapper).tells_tools is tells
    notation = derive_notation(wrapper)
    assert notation.tells_tools is tells
    assert notation.calls == derive_notation(make_wrapper(QWEN.template, QWEN.tokens)).calls


@pytest.mark.parametrize(
    "name", ["qwen2.5", "qwen3-coder", "mistral-small", "command-r7b", "kimi-k2"]
)
def test_derive_takes_a_template_that_wants_a_message_after_each_answer(name):
    family = FAMILIES[name]
    guard = (
        "{% if messages[-1].role == 'assistant' %}{{ raise_exception('no user') }}{% endif %}"
        "{% for m in messages %}{% if m.tool_calls and messages[loop.index].role != 'tool' %}"
        "{{ raise_exception('no result') }}{% endif %}{% endfor %}"
    )
    strict = derive_notation(make_wrapper(guard + family.template, family.tokens))
    assert strict.calls == derive_notation(make_wrapper(family.template, family.tokens)).calls


def test_derive_takes_a_model_with_one_template_for_tools_and_one_for_none():
    wrapper = make_wrapper(None, QWEN.tokens)
    wrapper.chat_template = {"default": PLAIN, "tool_use": QWEN.template}
    wrapper._tokenizer.chat_template = wrapper.chat_template
    wrapper.has_chat_template = True
    notation = derive_notation(wrapper)
    assert notation.source == "template"
    assert notation.calls == derive_notation(make_wrapper(QWEN.template, QWEN.tokens)).calls


def test_derive_takes_a_program_in_place_of_a_template():
    """mlx-lm has one for DeepSeek V3.2; it takes fewer variables than templates do."""
    inner = make_wrapper(QWEN.template, QWEN.tokens)

    def render(messages, tools=None, add_generation_prompt=False, enable_thinking=True):
        return inner.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
        )

    wrapper = make_wrapper(None, QWEN.tokens)
    wrapper.apply_chat_template = lambda messages, tokenize, **variables: render(
        messages, **variables
    )
    wrapper.has_chat_template = True
    assert derive_notation(wrapper).calls == derive_notation(inner).calls


@pytest.mark.parametrize("error", [OSError("no file"), MemoryError()])
def test_derive_does_not_blame_the_template_for_the_machine(error):
    wrapper = make_wrapper(QWEN.template, CHATML)

    def fail(*_, **__):
        raise error

    wrapper.apply_chat_template = fail
    with pytest.raises(type(error)):
        derive_notation(wrapper)
