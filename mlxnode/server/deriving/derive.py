"""Reads a notation off a chat template, by rendering conversations with it."""

import dataclasses
import logging
from typing import Any

from mlxnode.server.deriving import families
from mlxnode.server.deriving.probe import Probe
from mlxnode.server.deriving.proof import Unproven, prove, prove_history
from mlxnode.server.deriving.read_calls import Unwritten, read_calls
from mlxnode.server.deriving.rendered_calls import Unreadable
from mlxnode.server.deriving.sections import Sections, read_sections
from mlxnode.server.notation.notation import Markers, Notation
from mlxnode.server.rendering.limits import RenderLimit

logger = logging.getLogger("mlxnode.server")


def derive_notation(wrapper: Any) -> Notation:
    """The notation of the model that ``wrapper``, a tokenizer of mlx-lm, belongs to.

    It is read off the chat template, or known of the family, and then proven: what is written
    in it is read back. If that fails, ``source`` is "plain", and ``reason`` says why.

    Raises:
        RenderLimit: the template loops, or writes without end.
    """
    if not wrapper.has_chat_template:
        return _plain(Notation(thinking=_known_thinking(wrapper)), "there is no chat template")
    try:
        return _derive(wrapper)
    except (OSError, MemoryError, RenderLimit):
        raise  # this machine lacks something, or no request could be rendered either
    # A template is a program: a model whose template writes what nobody expects can be served
    # all the same.
    except Exception as error:
        logger.debug("notation: %s", error, exc_info=True)
        return _plain(Notation(thinking=_known_thinking(wrapper)), repr(error))


def _derive(wrapper: Any) -> Notation:
    template = _source(wrapper)
    probe = Probe(wrapper)
    if families.is_harmony(template):
        return dataclasses.replace(families.HARMONY, tells_tools=probe.tells_tools)
    words = "\n".join([template, *wrapper.get_added_vocab()])
    sections = read_sections(probe, words)
    notation = Notation(
        thinking=sections.thinking or _known_thinking(wrapper),
        content=sections.content or families.content_named_in(words),
        silent=sections.silent,
        tells_tools=probe.tells_tools,
    )
    try:
        return _read(notation, probe, sections, words)
    except Unwritten as error:
        return _known(notation, words, str(error))
    except (Unreadable, Unproven) as error:
        return _plain(notation, str(error))


def _known(notation: Notation, words: str, reason: str) -> Notation:
    """With the calls of a family whose templates do not write them."""
    calls = families.calls_named_in(words) if notation.tells_tools else None
    if calls is None:
        return _plain(notation, reason)
    known = dataclasses.replace(
        notation, calls=calls, source="table", reason=reason, writes_history=False
    )
    try:
        prove(known)
    except Unproven as error:
        return _plain(notation, str(error))
    return known


def _read(notation: Notation, probe: Probe, sections: Sections, words: str) -> Notation:
    found = read_calls(probe, sections)
    prove_history(probe, found)
    silent = notation.silent
    if found.notation.is_bare and families.PYTHON_TAG in words:
        silent = (*silent, families.PYTHON_TAG)
    notation = dataclasses.replace(
        notation, calls=found.notation, ends=found.ends, silent=silent
    )
    prove(notation)
    return notation


def _plain(notation: Notation, reason: str) -> Notation:
    return dataclasses.replace(notation, source="plain", reason=reason)


def _source(wrapper: Any) -> str:
    """The text of the template; "" if a program of mlx-lm stands in for it."""
    template = wrapper.chat_template or ""
    return template if isinstance(template, str) else "\n".join(template.values())


def _known_thinking(wrapper: Any) -> Markers | None:
    """The markers that mlx-lm finds in the vocabulary."""
    if not wrapper.has_thinking:
        return None
    return Markers(wrapper.think_start, wrapper.think_end)
