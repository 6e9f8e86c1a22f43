"""How much a JSON body holds, counted before anything is built of it.

What a body costs depends on the number of its values more than on its bytes: a message without
text takes as long as one of 10,000 characters.
"""

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.json_text import without_strings

MAX_VALUES = 500_000  # objects, arrays and strings, keys included; numbers cost little
SMALL_BYTES = 128 * 1024  # of numbers alone, they take about 25 ms
SMALL_VALUES = 2000  # an object of a body costs up to 5 µs for each value in it


def is_small(body: bytes) -> bool:
    """True if ``body`` can be read on the event loop; other work waits meanwhile."""
    return len(body) <= SMALL_BYTES and _count_at_most(body) <= SMALL_VALUES


def check_values(text: str) -> None:
    """Check the number of values in ``text``.

    Raises:
        InvalidRequest: there are more than ``MAX_VALUES``.
    """
    if text.count('"') // 2 + text.count("{") + text.count("[") <= MAX_VALUES:
        return
    structure = without_strings(text)
    count = structure.count('"') + structure.count("{") + structure.count("[")
    if count > MAX_VALUES:
        raise InvalidRequest(
            f"The body has {count} strings, objects and arrays; at most {MAX_VALUES} are "
            "accepted",
            code="too_many_values",
        )


def _count_at_most(body: bytes) -> int:
    """The number of values or, if strings hold quotation marks or brackets, more."""
    return body.count(b'"') // 2 + body.count(b"{") + body.count(b"[")
