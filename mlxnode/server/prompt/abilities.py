"""What a chat template can say, found by rendering conversations with it."""

import enum
import itertools
from dataclasses import dataclass
from typing import Any

from mlxnode.server.prompt.contents import Thoughts, in_parts, with_thoughts
from mlxnode.server.prompt.conversation import CalledFunction, Message, ToolCall
from mlxnode.server.prompt.renderer import Renderer

# Texts to look for: no template holds or changes them.
_SYSTEM, _OTHER_SYSTEM = "Qvsysa", "Qvsysb"
_USER, _OTHER_USER, _ANSWER, _OTHER_ANSWER = "Qvusera", "Qvuserb", "Qvansa", "Qvansb"
_NAMES, _VALUES = ("qvnamea", "qvnameb"), ("Qvvala", "Qvvalb")
_RESULTS, _THOUGHT, _REMARK = ("Qvresa", "Qvresb"), "Qvthought", "Qvremark"


class Ids(enum.Enum):
    """The form of the ids of calls."""

    ANY = enum.auto()
    NAMED = enum.auto()  # functions.NAME:NUMBER, the only place of the name (Kimi)
    NINE = enum.auto()  # nine letters or digits (Mistral)


class Beside(enum.Enum):
    """What becomes of a text beside calls in one message."""

    KEPT = enum.auto()
    APART = enum.auto()  # in a message of its own
    LOST = enum.auto()


@dataclass(frozen=True, kw_only=True)
class CallForm:
    """The form in which a template takes calls and results."""

    ids: Ids
    is_text: bool  # arguments are JSON in a string
    is_null: bool  # the content beside calls is None
    several: bool = True  # in one message
    remarks: Beside = Beside.KEPT


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """``calls`` is None if the template has no place for calls, or the model no notation."""

    has_system: bool
    has_systems_anywhere: bool  # several of them, or one after others
    has_developer: bool
    takes_system_alone: bool  # without a question; the tools are there in any case
    takes_users_in_a_row: bool
    takes_answers_in_a_row: bool
    takes_answer_first: bool
    takes_user_after_result: bool
    takes_lone_results: bool  # without a call before them
    takes_results: bool
    takes_bare_tools: bool  # tools without description and parameters
    wants_parts: bool  # each content is a list of parts
    thoughts: Thoughts
    filler: str  # the content of an answer that says nothing
    calls: CallForm | None


# What every template can say: questions and answers in turns.
PLAINEST = Abilities(
    has_system=False,
    has_systems_anywhere=False,
    has_developer=False,
    takes_system_alone=False,
    takes_users_in_a_row=False,
    takes_answers_in_a_row=False,
    takes_answer_first=False,
    takes_user_after_result=False,
    takes_lone_results=False,
    takes_results=False,
    takes_bare_tools=False,
    wants_parts=False,
    thoughts=Thoughts.FIELD,
    filler="...",
    calls=None,
)


def find_abilities(renderer: Renderer, *, has_calls: bool) -> Abilities:
    """Render conversations; ``has_calls``: the model has a notation of its own for calls."""
    probe = _Probe(renderer)
    user, answer = _message("user", _USER), _message("assistant", _ANSWER)
    next_user, other = _message("user", _OTHER_USER), _message("assistant", _OTHER_ANSWER)
    form = _call_form(probe) if has_calls else None
    exchange = [] if form is None else probe.exchange(form, 1)
    fillers = (
        filler
        for filler in ("", "...")
        if probe.shows([user, _message("assistant", filler), next_user], _USER, _OTHER_USER)
    )
    return Abilities(
        has_system=_has_system(probe, exchange),
        has_systems_anywhere=_has_systems_anywhere(probe),
        has_developer="developer" in renderer.words
        and probe.shows([_message("developer", _SYSTEM), user], _SYSTEM),
        takes_system_alone=_takes_system_alone(probe, has_calls),
        takes_users_in_a_row=probe.shows([user, next_user], _USER, _OTHER_USER),
        takes_answers_in_a_row=probe.shows([user, answer, other], _ANSWER, _OTHER_ANSWER)
        and probe.shows([user, answer, other, next_user], _ANSWER, _OTHER_ANSWER),
        takes_answer_first=probe.shows([answer, user], _ANSWER, _USER),
        takes_user_after_result=probe.shows([user, *exchange, next_user], _OTHER_USER),
        takes_lone_results=probe.shows([user, _result(0), next_user], _RESULTS[0]),
        takes_results=probe.shows([user, *(exchange or [answer, _result(0)])], _RESULTS[0]),
        takes_bare_tools=probe.shows([user], _NAMES[0], tools=[_bare_tool()]),
        wants_parts=probe.wants_parts,
        thoughts=_thoughts(probe, user),
        filler=next(fillers, ""),
        calls=form,
    )


class _Probe:
    """Asks whether texts are in what the template makes of a conversation."""

    wants_parts = False

    def __init__(self, renderer: Renderer):
        self._renderer = renderer
        user: Message = _message("user", _USER)
        is_taken = self.shows([user], _USER)
        self.wants_parts = not is_taken and self.shows([in_parts(user)], _USER)

    def shows(self, messages: list[Message], *texts: str, tools: Any = None) -> bool:
        """True if the template accepts ``messages`` and writes ``texts``, in that order.

        A text in single quotes is that of a list that the template takes for a string.
        """
        if self.wants_parts:
            messages = [in_parts(message) for message in messages]
        rendered = self._renderer.try_render(messages, tools=tools)
        at = 0
        for text in texts:
            if rendered is None or (at := rendered.find(text, at)) < 0:
                return False
            if f"'{text}'" in rendered:
                return False
        return rendered is not None

    def exchange(self, form: CallForm, number: int) -> list[Message]:
        """A message with ``number`` calls, and their results."""
        calls = [_call(form, index) for index in range(number)]
        content: Any = None if form.is_null else ""
        results = [_result(index, calls[index]["id"]) for index in range(number)]
        return [{"role": "assistant", "content": content, "tool_calls": calls}, *results]

    def shows_calls(self, form: CallForm, number: int) -> bool:
        user = _message("user", _USER)
        exchange = self.exchange(form, number)
        tools = [_bare_tool(index, is_bare=False) for index in range(number)]
        calls = [text for pair in zip(_NAMES, _VALUES, strict=True) for text in pair]
        texts = [*calls[: 2 * number], *_RESULTS[:number]]
        rest = [_message("assistant", _ANSWER), _message("user", _OTHER_USER)]
        return all(
            self.shows([user, *exchange, *after], *texts, tools=offered)
            for after in ([], rest)
            for offered in (tools, None)
        )


def _has_system(probe: _Probe, exchange: list[Message]) -> bool:
    system, user = _message("system", _SYSTEM), _message("user", _USER)
    more = [_message("assistant", _ANSWER), _message("user", _OTHER_USER)]
    # Some templates write it with the last question, and lose it where that is not the end.
    return all(
        probe.shows([system, user, *rest], _SYSTEM) for rest in ([], more, exchange)
    ) and (not exchange or probe.shows([system, user, *more, *exchange], _SYSTEM))


def _has_systems_anywhere(probe: _Probe) -> bool:
    system, other = _message("system", _SYSTEM), _message("system", _OTHER_SYSTEM)
    user, answer = _message("user", _USER), _message("assistant", _ANSWER)
    next_user = _message("user", _OTHER_USER)
    both = (_SYSTEM, _OTHER_SYSTEM)
    return (
        probe.shows([system, other, user], *both)
        and probe.shows([system, user, answer, other, next_user], *both)
        and probe.shows([system, user, answer, next_user, other], *both)
        and probe.shows([user, answer, system, next_user], _SYSTEM)
    )


def _takes_system_alone(probe: _Probe, has_calls: bool) -> bool:
    tools = [_bare_tool(is_bare=False)] if has_calls else None
    names = _NAMES[:1] if has_calls else ()
    system = [_message("system", _SYSTEM)]
    return probe.shows(system, _SYSTEM, tools=tools) and probe.shows(
        system, *names, tools=tools
    )


def _thoughts(probe: _Probe, user: Message) -> Thoughts:
    answer: Message = {**_message("assistant", _ANSWER), "reasoning_content": _THOUGHT}
    forms = (
        form
        for form in Thoughts
        if probe.shows([user, with_thoughts(answer, form)], _THOUGHT, _ANSWER)
    )
    return next(forms, Thoughts.FIELD)


def _call_form(probe: _Probe) -> CallForm | None:
    """The first form in which calls and results are all in the text."""
    for ids, is_text, is_null in itertools.product(Ids, (False, True), (False, True)):
        form = CallForm(ids=ids, is_text=is_text, is_null=is_null)
        if probe.shows_calls(form, 1):
            break
    else:
        return None
    return CallForm(
        ids=ids,
        is_text=is_text,
        is_null=is_null,
        several=probe.shows_calls(form, 2),
        remarks=_remarks_beside(probe, form),
    )


def _remarks_beside(probe: _Probe, form: CallForm) -> Beside:
    user = _message("user", _USER)
    call, *results = probe.exchange(form, 1)
    rest = [_message("assistant", _ANSWER), _message("user", _OTHER_USER)]

    def shows(*calling: Message) -> bool:
        # Some templates write the text after the calls.
        return all(
            probe.shows([user, *calling, *results, *after], _REMARK)
            and probe.shows([user, *calling, *results, *after], _VALUES[0], _RESULTS[0])
            for after in ([], rest)
        )

    if shows({**call, "content": _REMARK}):
        return Beside.KEPT
    return Beside.APART if shows(_message("assistant", _REMARK), call) else Beside.LOST


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def call_id(form: Ids, name: str, number: int) -> str:
    """The id of call ``number`` of a conversation, for a function with ``name``."""
    if form is Ids.NAMED:
        return f"functions.{name}:{number}"
    return f"{number:09d}" if form is Ids.NINE else f"call_{number:024d}"


def _call(form: CallForm, index: int) -> ToolCall:
    name, value = _NAMES[index], _VALUES[index]
    arguments = f'{{"key": "{value}"}}' if form.is_text else {"key": value}
    function: CalledFunction = {"name": name, "arguments": arguments}
    return {"id": call_id(form.ids, name, index), "type": "function", "function": function}


def _result(index: int, id: str = "000000000") -> Message:
    return {
        "role": "tool",
        "tool_call_id": id,
        "name": _NAMES[index],
        "content": _RESULTS[index],
    }


def _bare_tool(index: int = 0, *, is_bare: bool = True) -> dict[str, Any]:
    function: dict[str, Any] = {"name": _NAMES[index]}
    return {"type": "function", "function": function if is_bare else complete(function)}


def complete(function: dict[str, Any]) -> dict[str, Any]:
    """The definition of a function with all that templates read of it."""
    parameters = function.get("parameters") or {}
    properties = parameters.get("properties")
    known = properties if isinstance(properties, dict) else {}
    described = {
        name: {"type": "string", "description": "", **schema}
        if isinstance(schema, dict)
        else {"type": "string", "description": ""}
        for name, schema in known.items()
    }
    full = {"type": "object", "required": [], **parameters, "properties": described}
    return {"description": "", **function, "parameters": full}
