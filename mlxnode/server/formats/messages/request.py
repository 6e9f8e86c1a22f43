"""From a body of ``/v1/messages`` to a conversation, which has no wire format."""

from mlxnode.server.answer.settings import Settings
from mlxnode.server.constraints.constraint import Constraint
from mlxnode.server.formats.constraint import single_constraint
from mlxnode.server.formats.messages.blocks import SERVER_BLOCKS
from mlxnode.server.formats.messages.history import to_messages
from mlxnode.server.formats.messages.schema import (
    MessagesBody,
    OutputConfig,
    OutputFormat,
    PromptBody,
    Thinking,
    ToolChoice,
)
from mlxnode.server.formats.messages.tools import offered
from mlxnode.server.notation.tool_use import Function
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.switches import Switches


def to_conversation(body: PromptBody) -> Conversation:
    """The conversation of ``body``. An answer at its end is continued, as Anthropic does.

    Raises:
        InvalidRequest: there are two constraints, or the constraint is too large.
    """
    messages, breakpoints = to_messages(body)
    choice = body.tool_choice or ToolChoice(type="auto")
    is_alone = choice.disable_parallel_tool_use or choice.type == "tool"
    thinking = body.thinking
    continues = messages[-1]["role"] == "assistant" and "tool_calls" not in messages[-1]
    return Conversation(
        messages,
        functions=_functions(body, choice),
        must_call=choice.type in ("any", "tool"),
        # A tool that is named is called once.
        max_calls=1 if is_alone else None,
        constraint=_constraint(body),
        reasoning_effort=body.output_config and body.output_config.effort,
        wants_thinking=thinking and {"enabled": True, "disabled": False}.get(thinking.type),
        thinking_budget=thinking and thinking.budget_tokens,
        continues=continues,
        starts_answer=not continues,
        breakpoints=breakpoints,
    )


def settings_of(body: MessagesBody) -> Settings:
    """The body's parameters of the generation."""
    return Settings(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop_strings=[stop for stop in body.stop_sequences or () if stop],
    )


def without_effect(body: PromptBody, switches: Switches) -> list[str]:
    """The names of what is accepted, but changes nothing for a model with ``switches``."""
    ignored = [
        f"tools[{index}] ({tool.type})"
        for index, tool in enumerate(body.tools or ())
        if not tool.is_function
    ]
    for index, message in enumerate(body.messages):
        for place, block in enumerate(message.blocks):
            here = f"messages[{index}].content[{place}]"
            if block.type in SERVER_BLOCKS:
                ignored.append(f"{here} ({block.type})")
            elif isinstance(block.content, list):
                parts = (p.type for p in block.content if p.text is None and not p.tool_name)
                ignored += [f"{here}.content ({type})" for type in parts]
    thinking, config = body.thinking or Thinking(type="adaptive"), body.output_config
    if thinking.type in ("enabled", "disabled") and not switches.takes_switch:
        ignored.append("thinking.type")
    if thinking.budget_tokens is not None and not switches.takes_budget:
        ignored.append("thinking.budget_tokens")
    if config is not None and config.effort and not switches.takes_effort(config.effort):
        ignored.append("output_config.effort")
    return ignored


def _functions(body: PromptBody, choice: ToolChoice) -> list[Function]:
    """The functions that may be called: all, the one that is named, or none."""
    if choice.type == "none":
        return []
    return [
        Function(
            name=tool.name or "",
            description=tool.description,
            parameters=tool.input_schema,
            is_strict=bool(tool.strict),
            param=f"{place}.input_schema",
        )
        for place, tool in offered(body.tools or (), body.messages).values()
        if choice.type != "tool" or tool.name == choice.name
    ]


def _constraint(body: PromptBody) -> Constraint | None:
    """The schema of the answer, at its place of today or of the time before."""
    formats: dict[str, OutputFormat | None] = {
        "output_config.format.schema": (body.output_config or OutputConfig()).format,
        "output_format.schema": body.output_format,
    }
    return single_constraint(
        [
            # What cannot be enforced of a schema is left to the model, as in tools.
            Constraint.json(form.schema_, param, strict=False)
            for param, form in formats.items()
            if form is not None
        ]
    )
