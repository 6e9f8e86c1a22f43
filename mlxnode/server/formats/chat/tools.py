"""The tools of a chat request, and which of them the model may or has to call."""

from typing import ClassVar, Literal

from mlxnode.server.formats.body import Body
from mlxnode.server.formats.fields import JsonObject, ToolName
from mlxnode.server.formats.rules import Rule, required

MAX_TOOLS = 128


class Function(Body):
    """A function that the model may call; ``parameters`` is the schema of its arguments."""

    name: ToolName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"] = "function"
    function: Function


class FunctionName(Body):
    name: str


class NamedTool(Body):
    """One tool, by the name in it or, as in the Responses API, beside its type."""

    type: Literal["function"] = "function"
    function: FunctionName | None = None
    name: str | None = None

    rules: ClassVar[tuple[Rule, ...]] = (required("function", "name"),)

    @property
    def called(self) -> str:
        """The name of the function."""
        return self.name or "" if self.function is None else self.function.name


class AllowedTools(Body):
    mode: Literal["auto", "required"] = "auto"
    tools: list[NamedTool]


class AllowedToolsChoice(Body):
    """Some of the tools, which may or have to be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice
# Of the time before tools.
FunctionChoice = Literal["none", "auto"] | FunctionName


def names_in(choice: ToolChoice | FunctionChoice | None) -> list[str] | None:
    """The functions that a choice names; None if it names none."""
    if isinstance(choice, AllowedToolsChoice):
        return [tool.called for tool in choice.allowed_tools.tools]
    if isinstance(choice, NamedTool):
        return [choice.called]
    return [choice.name] if isinstance(choice, FunctionName) else None


def is_forced(choice: ToolChoice | FunctionChoice | None) -> bool:
    """True if the model has to call a function."""
    if isinstance(choice, AllowedToolsChoice):
        return choice.allowed_tools.mode == "required"
    return choice == "required" or isinstance(choice, (NamedTool, FunctionName))
