"""The parameters of a chat that its user can set."""

from collections.abc import Callable, Mapping
from typing import Any

from mlxnode.errors import ConfigError


def _number(text: str) -> float:
    value = float(text)
    if not -1e9 < value < 1e9:  # also not a number
        raise ValueError
    return value


def _whole(text: str) -> int:
    return int(text)


def _texts(text: str) -> list[str]:
    if not text:
        raise ValueError
    return [text.replace("\\n", "\n").replace("\\t", "\t")]


_Reader = Callable[[str], Any]
# Name -> (what it is, how its text is read). The node checks the range, which it knows.
_KINDS: Mapping[str, tuple[str, _Reader]] = {
    "temperature": ("a number from 0 to 2", _number),
    "top_p": ("a number from 0 to 1", _number),
    "top_k": ("a whole number", _whole),
    "min_p": ("a number from 0 to 1", _number),
    "max_tokens": ("a whole number", _whole),
    "seed": ("a whole number", _whole),
    "frequency_penalty": ("a number from -2 to 2", _number),
    "presence_penalty": ("a number from -2 to 2", _number),
    "repetition_penalty": ("a number above 0", _number),
    "reasoning_effort": ("none, minimal, low, medium or high", str),
    "thinking_budget": ("a whole number of tokens", _whole),
    "stop": ("a text", _texts),
}
NAMES = tuple(_KINDS)


def parse(name: str, text: str) -> Any:
    """The value of the parameter ``name``.

    Raises:
        ConfigError: there is no such parameter, or the text is no value of it.
    """
    if name not in _KINDS:
        raise ConfigError(f"there is no parameter {name}; there are {', '.join(NAMES)}")
    kind, read = _KINDS[name]
    try:
        return read(text)
    except ValueError:
        raise ConfigError(f"{name} must be {kind}, got {text!r}") from None


def parse_all(assignments: list[str]) -> dict[str, Any]:
    """The parameters of texts such as ``temperature=0.3``.

    Raises:
        ConfigError: as ``parse``, or there is no ``=``.
    """
    values = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ConfigError(f"--set {assignment}: expected NAME=VALUE, as temperature=0.3")
        values[name.strip()] = parse(name.strip(), text.strip())
    return values
