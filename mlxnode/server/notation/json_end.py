"""Finds the end of a JSON object in a text that arrives in parts."""

import re

_STRUCTURE = re.compile(r'["{}\[\]\\]')


class JsonEnd:
    """Counts the brackets of one JSON object, part by part."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False  # the next character belongs to the backslash before it
        self.is_found = False

    def find(self, text: str) -> int:
        """The number of characters of the next part that belong to the object."""
        at = 1 if self._is_escaped else 0
        self._is_escaped = False
        while match := _STRUCTURE.search(text, at):
            at = match.end()
            if match[0] == "\\":
                self._is_escaped = at == len(text)
                at += 1
            elif match[0] == '"':
                self._is_in_string = not self._is_in_string
            elif not self._is_in_string:
                self._depth += 1 if match[0] in "{[" else -1
                if self._depth == 0:
                    self.is_found = True
                    return at
        return len(text)
