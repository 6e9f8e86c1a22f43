"""Reads off a chat template how calls are written."""

import dataclasses
from typing import NamedTuple

from mlxnode.server.deriving.atoms import atoms, common_prefix, common_suffix, is_marker
from mlxnode.server.deriving.probe import CONTENT, FORMS, IDS, KEYS, NAMES, Call, Form, Probe
from mlxnode.server.deriving.rendered_calls import Literal, RenderedCalls, Unreadable, joined
from mlxnode.server.deriving.sections import Sections, without_thought
from mlxnode.server.deriving.tags import Tags, read_tags
from mlxnode.server.notation.notation import CallNotation

_VALUES = ("qzvaluea", "qzvalueb", "qzvaluec", "qzvalued")
_FIRST: Call = (NAMES[0], {KEYS[0]: _VALUES[0], KEYS[1]: _VALUES[1]}, IDS[0])
_SECOND: Call = (NAMES[1], {KEYS[2]: _VALUES[2], KEYS[3]: _VALUES[3]}, IDS[1])
_NUMBERED: Call = (NAMES[0], {KEYS[0]: 31415, KEYS[1]: 27182}, IDS[0])
_LONG_ID = f"call_{0:024}"
_FLAG: Call = (NAMES[0], {KEYS[0]: True}, IDS[0])


class Unwritten(Unreadable):
    """The template does not write calls."""


class FoundCalls(NamedTuple):
    """How the template writes calls, and the form in which it takes them.

    ``ends``: tokens that end an answer after its calls, and no other answer.
    """

    notation: CallNotation
    ends: tuple[str, ...]
    form: Form


def read_calls(probe: Probe, sections: Sections) -> FoundCalls:
    """The notation of the calls that the template writes.

    Raises:
        Unwritten: it writes none.
        Unreadable: it writes them in a way that no notation describes.
    """
    reasons = []
    for form in FORMS:
        if probe.calls([_FIRST], form) is not None:
            try:
                return _read(probe, sections, form)
            except Unreadable as error:
                reasons.append(error)
    if reasons:
        raise reasons[0]
    raise Unwritten("the template does not write the calls of earlier answers")


def _read(probe: Probe, sections: Sections, form: Form) -> FoundCalls:
    two = probe.calls([_FIRST, _SECOND], form)
    rendered = None if two is None else RenderedCalls.of(two, [_FIRST, _SECOND])
    turn_end = [atom for atom in atoms(sections.after) if is_marker(atom)]
    if rendered is None or any(marker in (rendered.between or "") for marker in turn_end):
        rendered = RenderedCalls.of(probe.calls([_FIRST], form) or "", [_FIRST])
    tags = _take_tags(probe, form, rendered)
    lead = _without_header(rendered.lead, sections)
    tail, ends = _without_end(rendered.tail, sections)
    notation = _assemble(rendered, lead, tail, tags)
    if probe.calls([(*_FIRST[:2], _LONG_ID)], form) is None:
        notation = dataclasses.replace(notation, short_ids=True)
    literals = [notation.start, notation.separator, notation.end, *notation.call]
    if any(marker in str(literal) for literal in literals for marker in turn_end):
        raise Unreadable("the template ends the answer before its calls")
    if sections.prompt.rstrip().endswith((notation.start + str(notation.call[0])).rstrip()):
        raise Unreadable("the prompt has begun the call")
    return FoundCalls(notation, ends, form)


def _without_header(lead: str, sections: Sections) -> str:
    """``lead`` from the first character that belongs to the calls."""
    if CONTENT in lead:
        lead = lead.rpartition(CONTENT)[2]
    else:
        lead = lead.removeprefix(common_prefix(lead, sections.before))
    return without_thought(lead, sections.thinking).lstrip()


def _without_end(tail: str, sections: Sections) -> tuple[str, tuple[str, ...]]:
    """``tail`` without the end of the turn, which is a token of its own in some families."""
    tail, turn_end = tail.rstrip(), sections.after.strip()
    last = atoms(tail)[-1] if tail else ""
    end = next(filter(is_marker, atoms(sections.later)), None)
    if not turn_end and end is not None and end in tail:
        return tail.partition(end)[0].rstrip(), ()
    if shared := common_suffix(tail, turn_end):
        return tail.removesuffix(shared).rstrip(), ()
    if not is_marker(last):
        return tail, ()
    if turn_end and "/" not in last:
        return tail.removesuffix(last).rstrip(), (last,)
    return tail, ()


def _take_tags(probe: Probe, form: Form, rendered: RenderedCalls) -> Tags | None:
    """How arguments are written one by one, taken out of ``rendered``; None for JSON."""
    if rendered.has_json:
        return None
    text = probe.calls([_NUMBERED], form)
    if text is None:
        raise Unreadable("the template does not write numbers as arguments")
    numbered = RenderedCalls.of(text, [_NUMBERED])
    flag = probe.calls([_FLAG], form) or ""
    tags = read_tags(rendered, numbered, has_python="True" in flag)
    rendered.take(tags.before_key, tags.after_string)
    return tags


def _assemble(rendered: RenderedCalls, lead: str, tail: str, tags: Tags | None) -> CallNotation:
    """The notation of ``rendered``, whose own texts are between ``lead`` and ``tail``."""
    between = rendered.between
    if between is None:
        head: Literal = [lead]
        start = separator = end = ""
        close = tail
    else:
        head = rendered.shared_head(lead)
        start = lead[: len(lead) - _length(head)]
        separator = between[: len(between) - _length(head)]
        close = common_prefix(separator, tail).rstrip()
        separator, end = separator[len(close) :], tail[len(close) :]
        head, space = _without_space(head)
        start, separator = (start + space).lstrip(), separator + space
    if not start and not "".join(map(str, head)).strip():
        raise Unreadable("nothing marks the beginning of a call")
    call = joined([*head, *rendered.middle, close])
    is_bare = not start and str(call[0])[0] in "{[" and not is_marker(atoms(str(call[0]))[0])
    arguments = None if tags is None else tags.notation
    notation = CallNotation(
        call, start, separator, end, arguments, has_several=between is not None, is_bare=is_bare
    )
    return notation if tags is None else tags.rotated(notation)


def _length(literal: Literal) -> int:
    return sum(len(part) if isinstance(part, str) else 1 for part in literal)


def _without_space(head: Literal) -> tuple[Literal, str]:
    """``head`` without the white space before it, which stands between calls."""
    if not head or not isinstance(head[0], str):
        return head, ""
    text = head[0].lstrip()
    return [text, *head[1:]], head[0][: len(head[0]) - len(text)]
