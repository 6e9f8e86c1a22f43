"""From a chat request to what the model's template is to write."""

from typing import Any

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.prompt.templates import ChatTemplate, Conversation
from mlxnode.server.prompt.tools import ToolUse, in_plain_words


def compose(
    body: ChatBody, template: ChatTemplate, tools: ToolUse | None, *, has_form: bool
) -> Conversation:
    """The conversation of ``body``; ``has_form``: its answer has to be of a given one.

    Raises:
        InvalidRequest: it asks for what this template cannot do.
    """
    messages = [message.to_template() for message in body.messages]
    definitions = tools.definitions if tools else []
    if tools.is_plain if tools else template.tool_syntax is None:
        messages, definitions = in_plain_words(messages, definitions), []
    continues = bool(body.continue_final_message)
    if continues and messages[-1]["role"] != "assistant":
        raise InvalidRequest(
            "Only a message of the assistant can be continued",
            param="continue_final_message",
            code="invalid_parameter_combination",
        )
    variables = _variables(body, template)
    switch = template.thinking_switch
    if has_form and switch is not None:
        # A form is kept from the first token on, unless reasoning was asked for, too.
        variables.setdefault(switch, False)
    return Conversation(
        messages,
        definitions,
        continues=continues,
        begins_answer=body.add_generation_prompt is not False and not continues,
        reasons=has_form and variables.get(switch) is True,
        variables=variables,
    )


def _variables(body: ChatBody, template: ChatTemplate) -> dict[str, Any]:
    """What the request sets in the template, reasoning switched on or off by effort."""
    variables: dict[str, Any] = dict(body.chat_template_kwargs or {})
    for name in variables:
        if not template.knows(name):
            raise InvalidRequest(
                f"Unsupported parameter: this model's chat template has no variable '{name}'.",
                param=f"chat_template_kwargs.{name}",
                code="unsupported_parameter",
            )
    effort = body.reasoning_effort
    if effort is None:
        return variables
    if not template.knows_effort:
        raise InvalidRequest(
            "Unsupported parameter: 'reasoning_effort' cannot be set, as this model's chat "
            "template has nothing for it.",
            param="reasoning_effort",
            code="unsupported_parameter",
        )
    if template.knows("reasoning_effort"):
        variables.setdefault("reasoning_effort", effort)
    if template.thinking_switch is not None:
        variables.setdefault(template.thinking_switch, effort != "none")
    return variables
