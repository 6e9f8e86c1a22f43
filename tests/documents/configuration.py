"""docs/configuration.md: each key of the configuration file.

Names, types, ranges and defaults come from ``mlxnode.config.tables``; what a key means comes
from the comments of the shipped config.toml.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from documents.comments import Comments, read_comments
from documents.markdown import ROOT
from pydantic import BaseModel, ValidationError

from mlxnode.config.several import DistributedConfig, SharedLimitsConfig
from mlxnode.config.tables import (
    ApiConfig,
    BatchesConfig,
    DiscoveryConfig,
    EngineConfig,
    KeyConfig,
    ModelConfig,
    ModelType,
    RateLimits,
    ServerConfig,
)

DOCUMENT = ROOT / "docs" / "configuration.md"
TABLES: dict[str, type[BaseModel]] = {
    "api": ApiConfig,
    "api.keys.<name>": KeyConfig,
    "api.models.<id>": ModelConfig,
    "server": ServerConfig,
    "server.discovery": DiscoveryConfig,
    "server.batches": BatchesConfig,
    "server.shared_limits": SharedLimitsConfig,
    "engine": EngineConfig,
    "engine.distributed": DistributedConfig,
}
# They have tables of their own.
_NESTED = {
    ApiConfig: {"keys", "models"},
    ServerConfig: {"discovery", "batches", "shared_limits"},
    EngineConfig: {"distributed"},
}
_SHARED = {*RateLimits.model_fields, "allow_control_tokens"}  # mean the same in each table
_HEAD = Path(__file__).with_name("heads") / "configuration.md"
VARIABLES = {
    "MLXNODE_CONFIG": "the configuration file",
    "MLXNODE_API_KEY": "one more key, as `api.api_key`",
    "MLXNODE_ADMIN_KEY": "one more admin key, as `api.admin_key`",
    "MLXNODE_ENGINE_KEY": "the key of the ranks, as `engine.distributed.key`",
    "MLXNODE_STATE": "the folder of what has to outlive a cleaning: the usage of the keys",
    "MLXNODE_CACHE": "the folder of what can be made or fetched again: demo models, derived "
    "models, prefixes on disk",
}


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a table, as the document shows it."""

    name: str
    kind: str
    default: str
    meaning: str
    models: str  # the types of models that it is for; empty: all, or it is of no model


def text() -> str:
    """The whole document."""
    comments = read_comments()
    variables = "".join(f"| `{name}` | {about} |\n" for name, about in VARIABLES.items())
    parts = [_HEAD.read_text(encoding="utf-8") + variables]
    for name, table in TABLES.items():
        shown = comments.get(name, Comments())
        intro = f"\n{_escaped(shown.intro)}\n" if shown.intro else ""
        parts.append(f"\n## `[{name}]`\n{intro}\n{_table(keys(table, comments, name))}")
    return "".join(parts)


def keys(table: type[BaseModel], comments: dict[str, Comments], name: str) -> Iterator[Key]:
    """The keys of ``table`` in the order of its declaration; nested tables are left out."""
    properties = table.model_json_schema()["properties"]
    for key, field in table.model_fields.items():
        if key in _NESTED.get(table, ()):
            continue
        schema = properties[key]
        meaning = comments.get(name, Comments()).keys.get(key, "")
        default = re.search(r";? ?\b[Dd]efault: ((?:[^;.]|\.(?=[\w/<]))+)", meaning)
        meaning = meaning.replace(default[0], "", 1) if default else meaning
        meaning = meaning or _shared(comments, key)
        shown = "required" if field.is_required() else _literal(field.default)
        if default is not None:
            shown = _escaped(default[1].strip())
        yield Key(
            f"`{key}`",
            _kind(schema),
            shown,
            _escaped(re.sub(r"\.\s*\.", ".", meaning).strip(" ;")),
            _models(key, comments) if table is ModelConfig else "",
        )


def _table(rows: Iterator[Key]) -> str:
    found = list(rows)
    titles = ["key", "type", "default", "meaning"]
    if has_models := any(key.models for key in found):
        titles.append("types of models")
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for key in found:
        cells = [key.name, key.kind, key.default, key.meaning]
        lines.append(f"| {' | '.join([*cells, key.models] if has_models else cells)} |")
    return "\n".join(lines) + "\n"


def _shared(comments: dict[str, Comments], key: str) -> str:
    """A reference to the table that explains a key that means the same in each."""
    found = (table for table, shown in comments.items() if shown.keys.get(key))
    return next((f"as in `[{table}]`" for table in found if key in _SHARED), "")


def _models(key: str, comments: dict[str, Comments]) -> str:
    """The types of models whose tables may have the key: those that pydantic accepts."""
    example = comments["api.models.<id>"].examples.get(key)
    types = get_args(ModelType)
    if key in ("path", "type") or example is None:
        return "all"
    fitting = []
    for kind in types:
        try:
            ModelConfig.model_validate({"path": "x", "type": kind, key: example})
        except ValidationError:
            continue
        fitting.append(kind)
    return "all" if len(fitting) == len(types) else ", ".join(fitting)


def _kind(schema: dict[str, Any]) -> str:
    """The type and the range of a key in words."""
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " \\| ".join(f"`{json.dumps(value)}`" for value in values)
    if "anyOf" in schema:
        found = [_kind(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(found)
    if "$ref" in schema:
        return "table"
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    if kind == "object":
        return "table of texts"
    words = {"string": "text", "boolean": "true or false", "integer": "integer"}
    return " ".join([words.get(str(kind), "number"), *_range(schema)])


def _range(schema: dict[str, Any]) -> Iterator[str]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']:g}"
    elif least is not None and most is not None:
        yield f"{least:g} to {most:g}"
    elif least is not None:
        yield f"from {least:g}"


def _literal(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{json.dumps(value)}`" if value not in ([], {}) else "none"


def _escaped(text: str) -> str:
    """``text`` in a cell; what would be a tag is code."""
    return re.sub(r"(?<![`\w])(<\w+>|<\|\w+\|>)", r"`\1`", text).replace("|", "\\|")
