"""From the body of ``/v1/responses`` to a conversation, which has no wire format."""

from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.constraint import single_constraint
from mlxnode.server.formats.responses.history import to_messages
from mlxnode.server.formats.responses.items import Item
from mlxnode.server.formats.responses.schema import ResponsesBody, SchemaFormat
from mlxnode.server.formats.responses.tools import Offer, ToolChoice
from mlxnode.server.formats.structured import structured_constraints
from mlxnode.server.prompt.conversation import Conversation, Message


def to_conversation(
    body: ResponsesBody, items: list[Item], offers: list[Offer]
) -> Conversation:
    """The conversation of ``body``: ``items`` are those of its input and of what came before.

    ``offers`` are the functions that may be called.

    Raises:
        InvalidRequest: a constraint cannot be used, or there is no message.
    """
    messages = [*_instructions(body), *to_messages(items)]
    if not messages:
        raise InvalidRequest(
            "The input holds nothing that the model can be told.",
            param="input",
            code="empty_prompt",
        )
    choice = body.tool_choice
    is_named = isinstance(choice, ToolChoice) and choice.type == "function"
    must_call = is_named or choice == "required"
    if isinstance(choice, ToolChoice) and choice.mode == "required":
        must_call = True
    return Conversation(
        messages,
        functions=[offer.function for offer in offers],
        must_call=must_call,
        # A named tool choice means exactly one call.
        max_calls=1 if is_named or body.parallel_tool_calls is False else body.max_tool_calls,
        constraint=constraint_of(body),
        variables=dict(body.kwargs),
        reasoning_effort=body.effort,
        wants_thinking=body.wants_thinking,
        thinking_budget=body.max_thinking_tokens,
    )


def _instructions(body: ResponsesBody) -> list[Message]:
    return [{"role": "system", "content": body.instructions}] if body.instructions else []


def constraint_of(body: ResponsesBody) -> Constraint | None:
    """The constraint of ``text.format``, or of another field for the same.

    Raises:
        InvalidRequest: there are two constraints, or the constraint is too large.
    """
    constraints = structured_constraints(body)
    form = body.text.format if body.text else None
    if form is not None and form.schema_ is not None and form.type != "text":
        strict = isinstance(form, SchemaFormat) and bool(form.strict)
        constraint = Constraint.json(form.schema_, "text.format.schema", strict=strict)
        constraints.insert(0, constraint)
    elif form is not None and form.type == "json_object":
        constraints.insert(0, Constraint.json({"type": "object"}, "text.format"))
    return single_constraint(constraints)
