"""Reads off a chat template what surrounds reasoning and content."""

import re
from typing import NamedTuple

from mlxnode.server.deriving.atoms import atoms, common_prefix, is_marker
from mlxnode.server.deriving.families import thinking_named_in
from mlxnode.server.deriving.probe import (
    CONTENT,
    FORMS,
    IDS,
    KEYS,
    NAMES,
    REASONING,
    THOUGHTS,
    Probe,
)
from mlxnode.server.notation.notation import Markers

_EMPTY_THOUGHT = re.compile(r"(<([^<>/\s]+)>|\[([A-Z]+)\])\s*(</\2>|\[/\3\])\s*$")


class Sections(NamedTuple):
    """The markers of an answer's sections, and the texts around an answer without any."""

    thinking: Markers | None
    content: Markers | None
    silent: tuple[str, ...]
    prompt: str  # from the question to the answer that the model shall write
    before: str  # from the question to the content
    after: str  # the end of the turn
    later: str  # what follows the content of an answer that is not the last one


def read_sections(probe: Probe, words: str) -> Sections:
    """``words``: the source of the template and the added tokens, for what is not rendered."""
    prompt = probe.after_question(starts_answer=True) or ""
    earlier, _, later = _earlier(probe).partition(CONTENT)
    plain = probe.answer(content=CONTENT) or earlier + CONTENT
    before, _, after = plain.partition(CONTENT)
    thinking = (
        _from_thoughts(probe, earlier, prompt)
        or _from_prompt(probe, earlier, prompt, words)
        or thinking_named_in(words)
    )
    start = before.removeprefix(common_prefix(before, prompt))
    start = without_thought(start, thinking).strip()
    content = None
    end = next(iter(atoms((after or later).lstrip())), "")
    is_header = prompt.rstrip().endswith(start)
    if not is_header and all(map(is_marker, atoms(start))) and is_marker(end):
        content = Markers(start, end)
        after = after.lstrip().removeprefix(end) if after.strip() != end else after
        later = later.lstrip().removeprefix(end)
    silent = _silent(probe, thinking, content)
    return Sections(thinking, content, silent, prompt, before, after, later)


def without_thought(text: str, thinking: Markers | None) -> str:
    """``text`` without what the template writes where an answer has no reasoning."""
    return text if thinking is None else text.rpartition(thinking.end)[2]


def _earlier(probe: Probe) -> str:
    """An answer that is not the last one, and what follows."""
    question = {"role": "user", "content": "and then?"}
    answer = {"role": "assistant", "content": CONTENT}
    for later in ([question], []):
        text = probe.after_question(answer, *later)
        if text is not None and CONTENT in text:
            return text
    return ""


def _from_thoughts(probe: Probe, earlier: str, prompt: str) -> Markers | None:
    """The markers around rendered reasoning."""
    for thought in THOUGHTS:
        text = probe.answer(**thought)
        if text is None or REASONING not in text:
            continue
        markers = _around(text, CONTENT, earlier, prompt)
        # A template that takes no parts may write them as they are, brackets and all.
        if isinstance(thought["content"], str) or (markers and is_marker(markers.start)):
            return markers
    # Some write the reasoning only if a call follows it.
    call = (NAMES[0], {KEYS[0]: "a"}, IDS[0])
    fields = {key: value for key, value in THOUGHTS[0].items() if key != "content"}
    for form in FORMS:
        text = probe.calls([call], form, **fields)
        if text is not None and REASONING in text:
            return _around(text, NAMES[0], earlier, prompt)
    return None


def _around(text: str, follows: str, earlier: str, prompt: str) -> Markers | None:
    before, _, rest = text.partition(REASONING)
    between = rest.partition(follows)[0].strip()
    start = before.removeprefix(common_prefix(before, earlier)).strip()
    if not start and before.strip() == earlier.strip():  # the prompt has opened the reasoning
        start = prompt.removeprefix(common_prefix(prompt, earlier)).strip()
    elif not start:  # earlier answers have empty reasoning
        start = atoms(before.rstrip())[-1]
    end = next(iter(atoms(between)), "")
    end = end if is_marker(end) else between
    return Markers(start, end) if start and end else None


def _from_prompt(probe: Probe, earlier: str, prompt: str, words: str) -> Markers | None:
    """The marker that ends the prompt, or the empty reasoning of one that shall not think."""
    start = prompt.removeprefix(common_prefix(prompt, earlier)).strip()
    end = re.sub(r"^([<\[])", r"\1/", start)
    if is_marker(start) and (end in words or "think" in start):
        return Markers(start, end)
    silenced = probe.after_question(starts_answer=True, thinks=False) or ""
    for text in (silenced, earlier):
        if found := _EMPTY_THOUGHT.search(text):
            return Markers(found[1], found[4])
    return None


def _silent(probe: Probe, thinking: Markers | None, content: Markers | None) -> tuple[str, ...]:
    """What stands between the reasoning and the content, and belongs to neither."""
    text = probe.answer(**THOUGHTS[0])
    if thinking is None or text is None or REASONING not in text or CONTENT not in text:
        return ()
    between = text.partition(REASONING)[2].partition(CONTENT)[0].strip()
    between = between.removeprefix(thinking.end)
    if content is not None:
        between = between.removesuffix(content.start)
    return (between.strip(),) if between.strip() else ()
