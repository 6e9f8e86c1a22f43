"""From the body of ``/v1/chat/completions`` to a conversation, which has no wire format."""

import contextlib
import json

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat import schema
from mlxnode.server.formats.chat.schema import ChatBody, NamedTool
from mlxnode.server.formats.constraint import guided_constraints, single_constraint
from mlxnode.server.notation.tool_use import Function
from mlxnode.server.prompt.conversation import Conversation, Message, ToolCall
from mlxnode.server.prompt.templates import ChatTemplate


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
        [to_message(message) for message in body.messages],
        functions=_functions(body),
        must_call=is_named or body.tool_choice == "required",
        # A named tool choice means exactly one call.
        is_parallel=body.parallel_tool_calls is not False and not is_named,
        constraint=constraint,
        variables={name: value for name, value in (body.chat_template_kwargs or {}).items()},
        reasoning_effort=body.reasoning_effort,
        continues=continues,
        starts_answer=body.add_generation_prompt is not False and not continues,
    )


def check_template(body: ChatBody, template: ChatTemplate) -> None:
    """Raises InvalidRequest for a variable or an effort that ``template`` does not have."""
    for name in body.chat_template_kwargs or ():
        if not template.knows(name):
            raise InvalidRequest(
                f"Unsupported parameter: this model's chat template has no variable '{name}'.",
                param=f"chat_template_kwargs.{name}",
                code="unsupported_parameter",
            )
    if body.reasoning_effort is not None and not template.knows_effort:
        raise InvalidRequest(
            "Unsupported parameter: 'reasoning_effort' cannot be set, as this model's chat "
            "template has nothing for it.",
            param="reasoning_effort",
            code="unsupported_parameter",
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


def to_message(message: schema.Message) -> Message:
    """The message in the form that chat templates take.

    The content is one string. The arguments of a tool call are an object if they are valid
    JSON: templates are written for transformers, not for OpenAI's JSON in a string.
    """
    converted: Message = {"role": message.role, "content": _text_of(message)}
    if message.name is not None:
        converted["name"] = message.name
    if message.reasoning_content is not None:
        converted["reasoning_content"] = message.reasoning_content
    if message.tool_calls is not None:
        converted["tool_calls"] = [_to_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        converted["tool_call_id"] = message.tool_call_id
    return converted


def _text_of(message: schema.Message) -> str:
    if isinstance(message.content, list):
        return "".join(part.text for part in message.content)
    return message.content or ""


def _to_call(call: schema.ToolCall) -> ToolCall:
    arguments = call.function.arguments
    with contextlib.suppress(ValueError, RecursionError):
        arguments = json.loads(arguments)
    return {
        "id": call.id,
        "type": call.type,
        "function": {"name": call.function.name, "arguments": arguments},
    }


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
