"""The grammar of the members of an object, which come in any order and never twice."""

from collections.abc import Sequence

from mlxnode.server.constraints.lark import LarkGrammar, one_of, sequence

_MAX_IN_ANY_ORDER = 60  # llguidance marks those that came in 64 bits


def members(
    grammar: LarkGrammar,
    prefix: str,
    pairs: Sequence[str],
    required: Sequence[int],
    *,
    separator: str,
    extra: str | None,
) -> str:
    """The expression of an object's members, with ``separator`` between them.

    ``pairs`` are the rules of the members that are known, ``required`` the numbers of those
    that must come, and ``extra`` is the rule of any other one. ``prefix`` starts the names of
    the rules. Too many members come in their order.
    """
    if not pairs and extra is None:
        return ""
    if len(pairs) > _MAX_IN_ANY_ORDER:
        return _in_order(grammar, prefix, pairs, set(required), separator, extra)
    rest = f"{prefix}rest"
    is_complete = _all_of([f"bit_set({i})" for i in required])
    following = [f'"" %if {is_complete}' if required else '""']
    first = [] if required else ['""']
    for i, pair in enumerate(pairs):
        step = sequence([separator, pair, f"{rest}::set_bit({i})"])
        following.append(f"{step} %if bit_clear({i})")
        first.append(sequence([pair, f"{rest}::{1 << i}"]))
    if extra is not None:
        following.append(sequence([separator, extra, f"{rest}::_"]))
        first.append(sequence([extra, f"{rest}::0"]))
    grammar.rule(f"{rest}::_", " | ".join(following))
    return grammar.rule(f"{prefix}members", " | ".join(first))


def _in_order(
    grammar: LarkGrammar,
    prefix: str,
    pairs: Sequence[str],
    required: set[int],
    separator: str,
    extra: str | None,
) -> str:
    """From the last member on: what follows another one, and what comes first."""
    after = first = '""'
    if extra is not None:
        after = f"({sequence([separator, extra])})*"
        first = f"({sequence([extra, after])})?"
    for i in reversed(range(len(pairs))):
        later, now = sequence([separator, pairs[i], after]), sequence([pairs[i], after])
        if i not in required:
            later, now = one_of([later, after]), one_of([now, first])
        after = grammar.rule(f"{prefix}after_{i}", later)
        first = grammar.rule(f"{prefix}first_{i}", now)
    return first


def _all_of(conditions: Sequence[str]) -> str:
    """The conditions joined in a tree, whose depth grows with the logarithm of the number."""
    if len(conditions) <= 1:
        return conditions[0] if conditions else "true"
    half = len(conditions) // 2
    return f"and({_all_of(conditions[:half])}, {_all_of(conditions[half:])})"
