"""Borders: where other prompts may part from a prompt.

The model's template is a program: it ends a prompt with a tail that the history does not keep
(``<think>``), drops thoughts once their turn is over, or moves the tools to the last question.
So borders are found by rendering other conversations, and comparing the texts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.prompt.conversation import Breakpoint, CalledFunction, Message, ToolCall
from mlxnode.server.prompt.encoding import EncodedText

# The text of a conversation, without an open answer at its end.
Render = Callable[[list[Message]], str]

_PROBE = "\ua66e"  # a letter that begins no message: the texts part where it stands
_QUESTION: Message = {"role": "user", "content": _PROBE}
_ANSWER: Message = {"role": "assistant", "content": _PROBE}
_CALL_ID = "000000000"  # Mistral's templates want nine letters or digits
_AFTER = 32  # characters after a border that can change the tokens before it
_MAX_TAIL = 100  # characters of an open answer: its header, the start of the thoughts
_WINDOW = 64  # tokens before a border in which an added token is looked for
_MIN_GAP = 16  # tokens between borders; fewer are computed again sooner than kept
_MAX_KNOWN = 1024


class Border(NamedTuple):
    """Another prompt has the same first ``length`` characters, and goes on with ``after``."""

    length: int
    after: str


class BorderFinder:
    """Finds the borders of the prompts of one template. Safe to call from several threads.

    The borders before a question and at breakpoints are known at the next prompts of the
    conversation. Without that, a prompt would take up to four renderings more than its own,
    and one more for each breakpoint.
    """

    def __init__(self):
        # By the hash of a conversation: its border, and the hash of the text before it.
        self._known: dict[int, tuple[Border, int]] = {}

    def find(
        self,
        text: str,
        messages: list[Message],
        render: Render,
        *,
        variables: str,
        function: str | None,
        breakpoints: Sequence[Breakpoint] = (),
    ) -> list[Border]:
        """The borders of ``text``, the prompt of ``messages``, in ascending order.

        They are the end of system message and tools, the start of the last question, the
        ``breakpoints``, and the end of what the next turns keep: with an answer and, where an
        answer drops thoughts of the turn, with one more call of ``function``, if the template
        has calls. ``variables`` are what else decides about the text, as a text. A
        conversation that the template does not accept has no border.
        """
        openings = [[*messages[:place], _QUESTION] for place in _questions(messages)]
        openings += _up_to(breakpoints, messages)
        borders = [self._end_of(text, opening, render, variables) for opening in openings]
        next_turn = _compare(text, _next_turn(messages), render)
        borders.append(next_turn)
        if function is not None and next_turn and next_turn.length < len(text) - _MAX_TAIL:
            borders.append(_compare(text, [*messages, *_call(function)], render))
        return sorted({border for border in borders if border is not None})

    def _end_of(
        self, text: str, opening: list[Message], render: Render, variables: str
    ) -> Border | None:
        """Where ``text`` parts from ``opening``, which ends with the probe."""
        key = hash((repr(opening), variables))
        if (known := self._known.get(key)) is not None:
            border, prefix = known
            if hash(text[: border.length]) == prefix:
                return border
        border = _compare(text, opening, render)
        if border is not None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = border, hash(text[: border.length])
        return border


def in_tokens(
    borders: list[Border],
    text: str,
    encoding: EncodedText,
    encode: Callable[[str], EncodedText],
    added_ids: frozenset[int],
) -> list[int]:
    """``borders`` of ``text`` as ascending numbers of tokens of ``encoding``, without its end.

    ``encode`` has made ``encoding`` of ``text``. The text after a border can change the tokens
    before it. So the text around it is encoded again, from the last of ``added_ids`` on, which
    no text joins. Without such a token nearby, the last token before the border is given up.
    """
    found: list[int] = []
    ids = encoding.ids
    for border in borders:
        last = encoding.char_to_token(border.length - 1) if border.length else None
        if last is None:  # the start, or a character that has no token
            continue
        window = range(last, max(last - _WINDOW, -1), -1)
        first = next((index for index in window if ids[index] in added_ids), None)
        span = None if first is None else encoding.token_to_chars(first)
        if first is None or span is None or span[1] > border.length:
            found.append(last)
            continue
        other = encode(text[span[0] : border.length] + border.after)
        found.append(first + common_prefix(ids[first:], other.ids))
    return _spread(sorted(found), len(ids))


def _spread(borders: list[int], end: int) -> list[int]:
    """``borders`` between 0 and ``end``, without those that are close after another one."""
    kept: list[int] = []
    for border in borders:
        if (kept[-1] if kept else 0) + _MIN_GAP <= border < end:
            kept.append(border)
    return kept


def _compare(text: str, messages: list[Message], render: Render) -> Border | None:
    try:
        other = render(messages)
    except InvalidRequest:
        return None
    length = common_prefix(text, other)
    return Border(length, other[length : length + _AFTER])


def _questions(messages: list[Message]) -> list[int]:
    """The indices of the first message after the system's, and of the last of the user."""
    roles = [message["role"] for message in messages]
    heads = (i for i, role in enumerate(roles) if role not in ("system", "developer"))
    places = {next(heads, len(roles))}
    if "user" in roles:
        places.add(len(roles) - 1 - roles[::-1].index("user"))
    return sorted(places)


def _up_to(breakpoints: Sequence[Breakpoint], messages: list[Message]) -> list[list[Message]]:
    """The conversations that part from ``messages`` at the ``breakpoints``.

    The end of the last message is none of them: other prompts go on after the answer.
    """
    openings: list[list[Message]] = []
    for index, head in breakpoints:
        place = len(messages) + index
        message = messages[place]
        if head != message["content"]:
            cut: Message = {**message, "content": head + _PROBE}
            openings.append([*messages[:place], cut])
        elif index != -1:
            openings.append([*messages[: place + 1], _QUESTION])
    return openings


def _next_turn(messages: list[Message]) -> list[Message]:
    is_answered = messages[-1]["role"] == "assistant"
    return [*messages, _QUESTION] if is_answered else [*messages, _ANSWER, _QUESTION]


def _call(function: str) -> list[Message]:
    called: CalledFunction = {"name": function, "arguments": {}}
    call: ToolCall = {"id": _CALL_ID, "type": "function", "function": called}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": _CALL_ID, "name": function, "content": _PROBE},
    ]


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """The number of elements that both start with."""
    start, end = 0, min(len(a), len(b))
    while start < end:
        middle = (start + end + 1) // 2
        if a[start:middle] == b[start:middle]:
            start = middle
        else:
            end = middle - 1
    return start
