"""Templates are rendered as transformers renders them."""

import pytest
from jinja2 import TemplateError
from support.notation_templates import FAMILIES
from support.notation_wrapper import make_wrapper
from support.picky_templates import PICKY
from transformers.utils import chat_template_utils

from mlxnode.server.rendering import remote
from mlxnode.server.rendering.environment import compiled

MESSAGES = [
    {"role": "system", "content": 'Be <brief> & "kind".'},
    {"role": "user", "content": "héllo 👍\n  {{ not }}"},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "Hm.",
        "tool_calls": [
            {
                "id": "abcdefgh1",
                "type": "function",
                "function": {"name": "f", "arguments": {"a": [1, 2.5, None, True, 10**20]}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "abcdefgh1", "name": "f", "content": "<ok>"},
    {"role": "user", "content": "and?"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": "A <test> of 'é'",
            "parameters": {"type": "object", "properties": {"a": {"type": "array"}}},
        },
    }
]
FEATURES = {
    "tojson": "{{ messages | tojson }}{{ tools | tojson(indent=2, sort_keys=True) }}",
    "tojson in ASCII": "{{ messages | tojson(ensure_ascii=True, separators=(',', ':')) }}",
    "generation": "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "loop controls": (
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}"
        "{% if loop.index > 3 %}{% break %}{% endif %}{% endfor %}"
    ),
    "blocks": "{% if true %}\n  a\n  {%- endif %}\n {% for m in messages %}\n b\n {% endfor %}",
    "namespace": "{% set n = namespace(self=1, a=2) %}{% set n.b = 3 %}{{ n.self, n.a, n.b }}",
    "a dict": "{{ dict(a=1) }}{{ dict.fromkeys(['a'], 2) }}",
    "an error": "{{ raise_exception('no: ' ~ messages | length) }}",
    "an undefined": "{{ nothing.field }}",
    "a private field": "{% set n = namespace(_a=1) %}",
}
TEMPLATES = {name: family.template for name, family in FAMILIES.items()} | PICKY | FEATURES


def outcome(wrapper, messages, tools, **options) -> str:
    try:
        return wrapper.apply_chat_template(messages, tools=tools, tokenize=False, **options)
    except Exception as error:
        return f"error: {error}"


@pytest.fixture
def transformers(monkeypatch):
    """A switch to the compiled templates of transformers itself."""
    remote.install()
    compile = chat_template_utils._cached_compile_jinja_template
    return lambda: monkeypatch.setattr(chat_template_utils, "_compile_jinja_template", compile)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_renders_as_in_transformers(transformers, name):
    wrapper = make_wrapper(TEMPLATES[name], ("<think>", "</think>"))
    cases = [
        (MESSAGES[1:2], None, {"add_generation_prompt": True}),
        (MESSAGES, TOOLS, {"add_generation_prompt": True, "enable_thinking": False}),
        (MESSAGES[:2], [], {"continue_final_message": True}),
        (MESSAGES[3:], TOOLS, {}),
    ]
    ours = [outcome(wrapper, *case[:2], **case[2]) for case in cases]
    transformers()
    theirs = [outcome(wrapper, *case[:2], **case[2]) for case in cases]
    if name == "a private field":  # both refuse it, in other words
        ours, theirs = ([text[:6] for text in texts] for texts in (ours, theirs))
    assert ours == theirs


def test_templates_of_transformers_are_not_rendered_here(monkeypatch):
    """Should transformers compile templates in another way, none would run unbounded."""
    remote.install()
    wrapper = make_wrapper("{{ messages }}")
    monkeypatch.delattr(chat_template_utils, "_cached_compile_jinja_template")
    assert outcome(wrapper, MESSAGES[1:2], None).startswith("[{")
    monkeypatch.delattr(chat_template_utils, "_compile_jinja_template")
    with pytest.raises(ImportError, match="has no _compile_jinja_template"):
        remote.install_with(remote.Renderers(remote.Limits()))


def test_a_template_is_compiled_once():
    assert compiled("{{ a }}") is compiled("{{ a }}")
    with pytest.raises(TemplateError):
        compiled("{% if %}")
