"""The keywords of objects, as far as llguidance enforces them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlxnode.server.constraints import scalars
from mlxnode.server.constraints.document import Node
from mlxnode.server.constraints.patterns import translate
from mlxnode.server.constraints.trial import problem_of

if TYPE_CHECKING:
    from mlxnode.server.constraints.keywords import Core, Keywords

MAX_DEPENDENCIES = 6  # each one can double the number of alternatives

_PLACES = ("allOf", "anyOf", "oneOf", "$ref", "if", "dependentSchemas", "dependencies")


def object_keywords(
    keywords: Keywords, node: Node, fields: Mapping[str, Any], core: Core
) -> None:
    """Add the keywords of objects to ``core``; leave out what cannot be enforced."""
    document, own = keywords.document, core.own
    if "properties" in fields:
        own["properties"] = fields["properties"]
    if "additionalProperties" in fields:
        rest = fields["additionalProperties"]
        own["additionalProperties"] = True if rest == {} else rest
    if isinstance(required := fields.get("required"), list):
        own["required"] = list(
            dict.fromkeys(name for name in required if isinstance(name, str))
        )
    elif required is not None:  # a boolean, as in draft 3
        document.leave_out(node, "required", "it must be a list of strings")
    for key in ("minProperties", "maxProperties"):
        if key in fields:
            own[key] = scalars.as_count(fields[key])
    if "unevaluatedProperties" in fields:
        _unevaluated(keywords, node, fields, own)
    if fields.get("patternProperties"):
        _patterns(keywords, node, fields["patternProperties"], own)
    if "propertyNames" in fields and not _names(keywords, fields["propertyNames"], own):
        document.leave_out(node, "propertyNames")
    dependencies = list(_dependencies(fields))
    if len(dependencies) > MAX_DEPENDENCIES:
        document.leave_out(node, "dependentRequired", f"more than {MAX_DEPENDENCIES}")
    else:
        core.choices += dependencies


def _unevaluated(
    keywords: Keywords, node: Node, fields: Mapping[str, Any], own: dict[str, Any]
) -> None:
    value = fields["unevaluatedProperties"]
    is_alone = not any(key in fields for key in _PLACES)
    if isinstance(value, bool):
        own["unevaluatedProperties"] = value
    elif is_alone:
        own.setdefault("additionalProperties", value)
    else:
        keywords.document.leave_out(node, "unevaluatedProperties")
        own["unevaluatedProperties"] = True


def _patterns(
    keywords: Keywords, node: Node, schemas: Mapping[str, Node], own: dict[str, Any]
) -> None:
    usable: dict[str, Node] = {}
    for pattern, schema in schemas.items():
        translated = translate(pattern)
        if translated.problem is None and len(translated.patterns) == 1:
            usable[translated.patterns[0]] = schema
    reason = problem_of({"type": "object", "patternProperties": dict.fromkeys(usable, True)})
    if reason is None and len(usable) == len(schemas):
        own["patternProperties"] = usable
        return
    keywords.document.leave_out(node, "patternProperties", reason or "")
    # Names that match are names that no other keyword has to allow.
    rest = own.get("additionalProperties", True)
    values = list(schemas.values())
    own["additionalProperties"] = values[0] if len(values) == 1 and rest is False else True


def _names(keywords: Keywords, schema: Node, own: dict[str, Any]) -> bool:
    """True if ``own`` now says what ``propertyNames`` says."""
    core = keywords.core(keywords.followed(schema))
    names = core.own
    if core.before or core.after or core.choices or not names.keys() <= _NAME_KEYWORDS:
        return False
    if "string" not in names.get("type", "string"):
        names = {"enum": []}
    values = names.get("enum", [names["const"]] if "const" in names else None)
    patterns = [*names.get("pattern", ()), *_length_pattern(names)]
    if values is None and not patterns:
        return True
    rest = own.get("additionalProperties", True)
    if "patternProperties" in own or (values is not None and patterns):
        return False
    if values is not None:
        known = own.get("properties", {})
        texts = [value for value in values if isinstance(value, str)]
        own["properties"] = {name: known[name] if name in texts else False for name in known}
        own["properties"] |= {name: rest for name in texts if name not in known}
    elif len(patterns) == 1 and not own.get("properties"):
        own["patternProperties"] = {patterns[0]: rest}
    else:
        return False
    own["additionalProperties"] = False
    return True


_NAME_KEYWORDS = {"type", "enum", "const", "pattern", "minLength", "maxLength"}


def _length_pattern(names: Mapping[str, Any]) -> Iterator[str]:
    least, most = names.get("minLength", 0), names.get("maxLength", "")
    if least or most != "":
        yield rf"^(?s:.){{{least},{most}}}$"


def _dependencies(fields: Mapping[str, Any]) -> Iterator[list[Node]]:
    """Per property that others depend on: it is absent, or the rest holds."""
    merged: dict[str, Any] = {}
    for key in ("dependencies", "dependentRequired", "dependentSchemas"):
        merged |= fields.get(key, {})
    for name, rest in merged.items():
        present: dict[str, Any] = {"required": [name]}
        if isinstance(rest, list):
            present["required"] = [name, *rest]
        else:
            present["allOf"] = [rest]
        yield [{"properties": {name: False}}, present]
