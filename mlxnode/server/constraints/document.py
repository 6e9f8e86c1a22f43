"""The JSON schema of a request: its limits, the places of its parts, and its references."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote, urljoin

from mlxnode.server.errors import InvalidRequest

MAX_SCHEMA_BYTES = 65_536  # as compact JSON; the largest one compiles in half a second
MAX_SCHEMA_DEPTH = 100  # llguidance's parser takes 128 levels, its own wrapping included

VALUES = ("const", "enum", "default", "examples")  # keywords whose values are no schemas
# Keywords whose value maps names to schemas.
MAPS = (
    "properties",
    "patternProperties",
    "$defs",
    "definitions",
    "dependentSchemas",
    "dependencies",
)

Node = Mapping[str, Any] | bool


class Document:
    """A whole schema. A part of it is known by its identity.

    Raises:
        InvalidRequest: naming ``param``; the schema is too large or too deep.
    """

    def __init__(self, root: Mapping[str, Any], param: str, *, strict: bool):
        self.root = root
        self.param = param
        self.is_strict = strict
        self._parents: dict[int, tuple[int, str]] = {}
        self._bases: dict[int, str] = {}  # of the nodes that have references
        self._resources: dict[str, Any] = {"": root}
        self._anchors: dict[tuple[str, str], Any] = {}
        _check_size(root, param)
        self._index()

    def place(self, node: object) -> str:
        """Where a node stands, such as ``properties.email``."""
        keys: list[str] = []
        identity = id(node)
        while identity in self._parents:
            identity, key = self._parents[identity]
            keys.append(key)
        return ".".join(reversed(keys)) or "the top"

    def refuse(self, node: object, reason: str) -> NoReturn:
        """Raise InvalidRequest for ``node``."""
        raise refusal(self.param, f"at {self.place(node)}, {reason}")

    def leave_out(self, node: object, keyword: str, reason: str = "") -> None:
        """Ignore a keyword that cannot be enforced, or raise InvalidRequest if strict."""
        if not self.is_strict:
            return
        head, _, _ = self.param.rpartition(".")
        advice = f"remove it, or set '{head}.strict' to false" if head else "remove it"
        because = f" ({reason})" if reason else ""
        self.refuse(node, f"'{keyword}' cannot be enforced{because}: {advice}")

    def target(self, node: Mapping[str, Any], reference: str) -> Any:
        """The node that a ``$ref`` of ``node`` means; None if it is not in the document."""
        address, _, fragment = reference.partition("#")
        base = self._bases.get(id(node), "")
        address = _joined(base, address) if address else base
        resource = self._resources.get(address)
        if resource is None:
            return None
        fragment = unquote(fragment)
        if not fragment or fragment == "/":
            return resource
        if not fragment.startswith("/"):
            return self._anchors.get((address, fragment))
        # Some writers count from the root although the schema has an identifier of its own.
        found = _at_pointer(resource, fragment)
        return _at_pointer(self.root, fragment) if found is None else found

    def _index(self) -> None:
        """Note the parents, the base addresses and the anchors of all nodes."""
        stack: list[tuple[Any, str, bool]] = [(self.root, "", False)]
        while stack:
            node, base, is_map = stack.pop()
            if isinstance(node, Mapping) and not is_map:
                base = self._note(node, base)
            for key, child, child_is_map in _children(node, is_map):
                if isinstance(child, Mapping | list):
                    self._parents.setdefault(id(child), (id(node), key))
                    stack.append((child, base, child_is_map))

    def _note(self, node: Mapping[str, Any], base: str) -> str:
        for key in ("$id", "id"):
            if not isinstance(identifier := node.get(key), str):
                continue
            address, _, fragment = identifier.partition("#")
            if address:
                base = _joined(base, address)
                self._resources.setdefault(base, node)
            if fragment:  # an anchor of older drafts
                self._anchors.setdefault((base, fragment), node)
        if node is self.root:
            self._resources.setdefault(base, node)
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(anchor := node.get(key), str):
                self._anchors.setdefault((base, anchor), node)
        if any(key in node for key in ("$ref", "$dynamicRef", "$recursiveRef")):
            self._bases[id(node)] = base
        return base


def too_large(param: str, size: int, limit: int) -> InvalidRequest:
    """The error for a grammar of more than ``limit`` bytes."""
    return refusal(param, f"it has {size} bytes, at most {limit} are accepted")


def refusal(param: str, reason: str) -> InvalidRequest:
    """The error for a grammar that cannot be used."""
    return InvalidRequest(f"Invalid '{param}': {reason}.", param=param, code="invalid_grammar")


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address)
    except ValueError:  # such as a bracket that is not closed
        return address


def _children(node: Any, is_map: bool) -> Iterator[tuple[str, Any, bool]]:
    """(key, child, whether the child maps names to schemas) of each child with schemas."""
    if isinstance(node, list):
        for i, child in enumerate(node):
            yield str(i), child, False
    elif is_map:
        for key, child in node.items():
            yield str(key), child, False
    else:
        for key, child in node.items():
            if key not in VALUES:
                yield str(key), child, key in MAPS and isinstance(child, Mapping)


def _at_pointer(node: Any, pointer: str) -> Any:
    for segment in pointer[1:].split("/"):
        segment = segment.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(segment)
        elif isinstance(node, list) and segment.isdecimal() and int(segment) < len(node):
            node = node[int(segment)]
        else:
            return None
    return node if isinstance(node, Mapping | bool) else None


def _check_size(root: Mapping[str, Any], param: str) -> None:
    level: list[Any] = [root]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [child for node in level for child in _values(node)]
        if not level:
            break
    else:
        raise refusal(param, f"it is nested more than {MAX_SCHEMA_DEPTH} levels deep")
    text = json.dumps(root, ensure_ascii=False, separators=(",", ":"))
    size = len(text.encode(errors="surrogatepass"))
    if size > MAX_SCHEMA_BYTES:
        raise too_large(param, size, MAX_SCHEMA_BYTES)


def _values(node: Any) -> Any:
    if isinstance(node, Mapping):
        return node.values()
    return node if isinstance(node, list) else ()
