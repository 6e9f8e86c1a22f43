"""The tools of a request: which functions the model may call, and where the client has them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.chat.tools import Function as Definition
from mlxnode.server.formats.chat.tools import FunctionName
from mlxnode.server.formats.fields import JsonObject, ToolName
from mlxnode.server.formats.responses.output import ToolAddress
from mlxnode.server.formats.rules import Rule, needs, none_of, one_of, required
from mlxnode.server.notation.tool_use import Function

MAX_TOOLS = 128  # in a list
MAX_FUNCTIONS = 512  # of all lists


class FunctionTool(Body):
    """A function, flat or, as in chat completions, in a field of its own.

    Unlike at OpenAI, calls are only enforced where ``strict`` is true: to enforce what nobody
    asked for would refuse schemas that no grammar can express.
    """

    type: Literal["function"]
    name: ToolName | None = None
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    function: Definition | None = None

    neutral: ClassVar = {
        "allowed_callers": (ANY,),
        "async": (ANY,),
        "cache_control": (ANY,),
        "defer_loading": (ANY,),
        "output_schema": (ANY,),
    }
    rules: ClassVar[tuple[Rule, ...]] = (required("name", "function"),)

    @property
    def definition(self) -> "FunctionTool | Definition":
        return self.function or self


class OtherTool(Body):
    """A tool that this server does not have, with all its fields."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(json_schema_extra={"not": {"enum": ["function", "namespace"]}})]


def _kind(tool: Any) -> str:
    """The kind of a tool, so that an error is about that kind alone."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    return {"function": "a function", "namespace": "a namespace"}.get(str(kind), "another tool")


class Namespace(Body):
    """Functions under a common name, as Codex groups them."""

    type: Literal["namespace"]
    name: ToolName
    description: str | None = None
    tools: Annotated[
        list[
            Annotated[
                Annotated[FunctionTool, Tag("a function")]
                | Annotated[OtherTool, Tag("another tool")],
                Discriminator(_kind),
            ]
        ],
        Field(max_length=MAX_TOOLS),
    ]


Tools = Annotated[
    list[
        Annotated[
            Annotated[FunctionTool, Tag("a function")]
            | Annotated[Namespace, Tag("a namespace")]
            | Annotated[OtherTool, Tag("another tool")],
            Discriminator(_kind),
        ]
    ],
    Field(max_length=MAX_TOOLS),
]
Tool = FunctionTool | Namespace | OtherTool


class AllowedTool(Body):
    """A tool that may be called. Those that the server does not have cannot be, anyway."""

    type: str
    name: str | None = None
    namespace: str | None = None

    neutral: ClassVar = {"server_label": (ANY,)}


class ToolChoice(Body):
    """The function to call, flat or as in chat completions; or the tools that may be called."""

    type: Literal["function", "allowed_tools"]
    name: ToolName | None = None
    namespace: str | None = None
    function: FunctionName | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[AllowedTool] | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        required("tools", unless=none_of("type", "allowed_tools")),
        needs("tools", one_of("type", "allowed_tools"), "type is not allowed_tools"),
    )

    @property
    def function_name(self) -> str | None:
        return self.function.name if self.function else self.name


@dataclass(frozen=True)
class Offer:
    """A function as the model gets it, and where the client has it."""

    function: Function
    address: ToolAddress

    def matches(self, name: str | None, namespace: str | None) -> bool:
        is_there = namespace is None or namespace == self.address.namespace
        return is_there and name in (self.address.name, self.function.name)


def name_within(namespace: str | None, name: str) -> str:
    """The name by which the model knows a function."""
    return f"{namespace}__{name}" if namespace else name


def offers_of(tools: list[Tool]) -> list[Offer]:
    """All functions of ``tools``.

    Raises:
        InvalidRequest: there are too many.
    """
    offers: list[Offer] = []
    taken: set[str] = set()
    for path, tool, namespace in _functions(tools):
        definition = tool.definition
        assert definition.name is not None  # by the rules of the schema
        within = namespace.name if namespace else None
        name = unused = name_within(within, definition.name)
        while namespace and unused in taken:  # of another namespace, or of none
            unused += "_"
        name = unused
        taken.add(name)
        description = definition.description
        if namespace and namespace.description and path.endswith(".tools[0]"):
            # The first function tells what all of them are for.
            description = f"{namespace.description}\n\n{description or ''}".strip()
        function = Function(
            name=name,
            description=description,
            parameters=definition.parameters,
            is_strict=bool(definition.strict),
            param=f"{path}.{'function.' if tool.function else ''}parameters",
        )
        offers.append(Offer(function, ToolAddress(definition.name, within)))
    if len(offers) > MAX_FUNCTIONS:
        raise InvalidRequest(
            f"Invalid 'tools': expected at most {MAX_FUNCTIONS} functions in all, "
            f"got {len(offers)}.",
            param="tools",
            code="array_above_max_length",
        )
    return offers


def chosen(offers: list[Offer], choice: str | ToolChoice | None) -> list[Offer]:
    """The functions that may be called under ``choice``.

    Raises:
        InvalidRequest: the choice names no offered function.
    """
    if choice == "none":
        return []
    if isinstance(choice, ToolChoice):
        if choice.tools is not None:
            wanted = [(tool.name, tool.namespace) for tool in choice.tools]
        else:
            wanted = [(choice.function_name, choice.namespace)]
        found = [offer for offer in offers if any(offer.matches(*name) for name in wanted)]
        if not found:
            names = ", ".join(json.dumps(name) for name, _ in wanted[:8])
            raise InvalidRequest(
                f"Invalid 'tool_choice': no function is offered by the name {names}.",
                param="tool_choice",
                code="unsupported_value",
            )
        return found
    if choice == "required" and not offers:
        raise InvalidRequest(
            "Invalid 'tool_choice': a call is required, but 'tools' offers no function.",
            param="tool_choice",
            code="invalid_parameter_combination",
        )
    return offers


def unserved(tools: list[Tool]) -> Iterator[str]:
    """The tools that this server does not have, each by its place and its type."""
    for index, tool in enumerate(tools):
        if isinstance(tool, OtherTool):
            yield f"tools[{index}] ({tool.type})"
        elif isinstance(tool, Namespace):
            for i, inner in enumerate(tool.tools):
                if isinstance(inner, OtherTool):
                    yield f"tools[{index}].tools[{i}] ({inner.type})"


def _functions(tools: list[Tool]) -> Iterator[tuple[str, FunctionTool, Namespace | None]]:
    """Each function with its path in the body, and with the namespace that it is in."""
    for index, tool in enumerate(tools):
        if isinstance(tool, FunctionTool):
            yield f"tools[{index}]", tool, None
        elif isinstance(tool, Namespace):
            for i, inner in enumerate(tool.tools):
                if isinstance(inner, FunctionTool):
                    yield f"tools[{index}].tools[{i}]", inner, tool
