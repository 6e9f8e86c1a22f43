"""From the body of ``/v1/chat/completions`` to a conversation, which has no wire format."""

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.history import to_messages
from mlxnode.server.formats.chat.schema import ChatBody, NamedTool
from mlxnode.server.formats.constraint import guided_constraints, single_constraint
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
    is_named = isinstance(body.tool_choice, NamedTool)
    return Conversation(
        to_messages(body.messages),
        functions=_functions(body),
        must_call=is_named or body.tool_choice == "required",
        # A named tool choice means exactly one call.
        is_parallel=body.parallel_tool_calls is not False and not is_named,
        constraint=constraint,
        variables=dict(body.kwargs),
        reasoning_effort=body.effort,
        wants_thinking=body.wants_thinking,
        thinking_budget=body.max_thinking_tokens,
        continues=continues,
        starts_answer=body.add_generation_prompt is not False and not continues,
    )


def constraint_of(body: ChatBody) -> Constraint | None:
    """The constraint of ``response_format`` or of a ``guided_*`` parameter.

    Raises:
        InvalidRequest: there are two constraints, or the constraint is too large.
    """
    constraints = guided_constraints(body)
    form = body.response_format
    if form is not None and form.json_schema is not None:
        constraint = Constraint.json(
            form.json_schema.schema_,
            "response_format.json_schema.schema",
            strict=bool(form.json_schema.strict),
        )
        constraints.insert(0, constraint)
    elif form is not None and form.type == "json_object":
        constraints.insert(0, Constraint.json({"type": "object"}, "response_format"))
    return single_constraint(constraints)


def _functions(body: ChatBody) -> list[Function]:
    """The functions that may be called: all, the one that ``tool_choice`` names, or none."""
    if body.tool_choice == "none":
        return []
    functions = [
        Function(
            name=tool.function.name,
            description=tool.function.description,
            parameters=tool.function.parameters,
            is_strict=bool(tool.function.strict),
            param=f"tools[{index}].function.parameters",
        )
        for index, tool in enumerate(body.tools or ())
    ]
    if isinstance(body.tool_choice, NamedTool):
        name = body.tool_choice.function.name
        return [function for function in functions if function.name == name]
    return functions
