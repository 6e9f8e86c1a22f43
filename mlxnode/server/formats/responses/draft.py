"""The part of an answer that is known before its first token: the request's parameters."""

import time
import uuid
from typing import Any

from mlxnode.server.formats.responses.answers import (
    Response,
    ResponseReasoning,
    ResponseText,
)
from mlxnode.server.formats.responses.schema import ResponsesBody, SchemaFormat
from mlxnode.server.formats.responses.tools import FunctionTool, Namespace, Tool
from mlxnode.server.registry.opened import TextModel


def draft_of(body: ResponsesBody, model: TextModel, *, is_stored: bool) -> Response:
    """A new answer to ``body``, without its output."""
    settings, defaults = body.settings, model.defaults
    temperature, top_p = settings.temperature, settings.top_p
    return Response(
        id=f"resp_{uuid.uuid4().hex}",
        created_at=int(time.time()),
        instructions=body.instructions,
        max_output_tokens=settings.max_tokens,
        max_tool_calls=body.max_tool_calls,
        model=model.served.id,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        previous_response_id=body.previous_response_id,
        prompt_cache_key=_text(body.prompt_cache_key),
        reasoning=_reasoning(body),
        safety_identifier=_text(body.safety_identifier),
        store=is_stored,
        temperature=defaults.temperature if temperature is None else temperature,
        text=ResponseText(_format(body)),
        tool_choice=_tool_choice(body),
        tools=[_tool(tool) for tool in body.tools or ()],
        top_logprobs=body.top_logprobs or 0,
        top_p=defaults.top_p if top_p is None else top_p,
        truncation=body.truncation or "disabled",
        user=_text(body.user),
        metadata=body.metadata or {},
    )


def _text(note: Any) -> str | None:
    return note if isinstance(note, str) else None


def _reasoning(body: ResponsesBody) -> ResponseReasoning:
    asked = body.reasoning
    wants_summary = asked is not None and asked.wants_summary
    summary = (asked.summary or asked.generate_summary) if asked and wants_summary else None
    return ResponseReasoning(body.effort, summary)


def _format(body: ResponsesBody) -> dict[str, Any]:
    form = body.text.format if body.text else None
    if form is None:
        return {"type": "text"}
    described = form.model_dump(by_alias=True, exclude_none=True)
    if isinstance(form, SchemaFormat):
        # Clients read the name; it may have been left out.
        described |= {"name": _text(form.name) or "answer", "strict": bool(form.strict)}
    return described


def _tool_choice(body: ResponsesBody) -> str | dict[str, Any]:
    choice = body.tool_choice or "auto"
    return choice if isinstance(choice, str) else choice.model_dump(exclude_none=True)


def _tool(tool: Tool) -> dict[str, Any]:
    """The tool as it is used: a function is flat, and says whether its calls are enforced."""
    if isinstance(tool, FunctionTool):
        definition = tool.definition
        return {
            "type": "function",
            "name": definition.name,
            "description": definition.description,
            "parameters": definition.parameters,
            "strict": bool(definition.strict),
        }
    if isinstance(tool, Namespace):
        served = [inner for inner in tool.tools if isinstance(inner, FunctionTool)]
        return {
            "type": "namespace",
            "name": tool.name,
            "description": tool.description or "",
            "tools": [_tool(inner) for inner in served],
        }
    return tool.model_dump()
