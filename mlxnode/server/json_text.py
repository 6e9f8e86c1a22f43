"""Reads JSON whose strings are not quite JSON's, as clients and models write it."""

import json
import re
from typing import Any

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def load_json(text: str, **hooks: Any) -> Any:
    """The value of ``text``; ``hooks`` are those of ``json.loads``.

    Raw control characters in strings are understood. An escape that is half a surrogate pair,
    left where somebody cut a text within a character, becomes U+FFFD: no encoder takes it.

    Raises:
        ValueError: ``text`` is not JSON, or a hook refuses it.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(text, strict=False, **hooks)
    if not _SURROGATE_ESCAPE.search(text):
        return value
    # What is left of surrogates after reading is halves. They are replaced in a text again,
    # not by a walk over the values: in time for the hooks to see two keys that become one.
    whole, count = _SURROGATE.subn(_REPLACEMENT, json.dumps(value, ensure_ascii=False))
    return json.loads(whole, **hooks) if count else value
