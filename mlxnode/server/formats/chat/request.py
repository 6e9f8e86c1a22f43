"""From the body of ``/v1/chat/completions`` to a conversation, which has no wire format."""

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.history import to_messages
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.chat.tools import (
    FunctionChoice,
    NamedTool,
    ToolChoice,
    is_forced,
    names_in,
)
from mlxnode.server.formats.constraint import single_constraint
from mlxnode.server.formats.structured import structured_constraints
from mlxnode.server.notation.tool_use import Function
from mlxnode.server.prompt.conversation import Conversation


def to_conversation(body: ChatBody) -> Conversation:
    """The conversation of ``body``.

    Raises:
        InvalidRequest: a constraint cannot be used, or there is no answer to continue.
    """
    continues = bool(body.continue_final_message)
    constraint = constraint_of(body)
    if continues and body.messages[-1].role != "assistant":
        raise InvalidRequest(
            "Only a message of the assistant can be continued",
            param="continue_final_message",
            code="invalid_parameter_combination",
        )
    choice = body.function_call if body.has_functions else body.tool_choice
    is_one = isinstance(choice, NamedTool) or body.has_functions
    return Conversation(
        to_messages(body.messages),
        functions=_functions(body, choice),
        must_call=is_forced(choice),
        # A named tool choice means exactly one call.
        max_calls=1 if is_one or body.parallel_tool_calls is False else None,
        constraint=constraint,
        variables=dict(body.kwargs),
        reasoning_effort=body.effort,
        wants_thinking=body.wants_thinking,
        thinking_budget=body.max_thinking_tokens,
        continues=continues,
        starts_answer=body.add_generation_prompt is not False and not continues,
    )


def constraint_of(body: ChatBody) -> Constraint | None:
    """The form of the answer, if a field sets one.

    Raises:
        InvalidRequest: there are two, or the constraint is too large.
    """
    return single_constraint(structured_constraints(body))


def _functions(body: ChatBody, choice: ToolChoice | FunctionChoice | None) -> list[Function]:
    """The functions that may be called: all, those that ``choice`` names, or none."""
    if choice == "none":
        return []
    tools = [
        (tool.function, f"tools[{index}].function.parameters")
        for index, tool in enumerate(body.tools or ())
    ]
    tools += [
        (function, f"functions[{index}].parameters")
        for index, function in enumerate(body.functions or ())
    ]
    names = names_in(choice)
    return [
        Function(
            name=function.name,
            description=function.description,
            parameters=function.parameters,
            is_strict=bool(function.strict),
            param=param,
        )
        for function, param in tools
        if names is None or function.name in names
    ]
