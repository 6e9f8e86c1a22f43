"""From a conversation, of any wire format, to a request to the engine."""

import functools
from dataclasses import dataclass

from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.answer.sampling import samplings_of, stop_ids_of, thinking_limit
from mlxnode.server.answer.settings import Settings
from mlxnode.server.answer.tool_names import with_safe_names
from mlxnode.server.constraints.tool_grammar import Writing, answer_grammar
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.parsing.output_parser import OutputParser
from mlxnode.server.prompt.context_length import TooLong, fit_prompt, refusal
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.lanes import in_lane
from mlxnode.server.prompt.tokenizers import ChatPrompt
from mlxnode.server.prompt.tools import tool_use
from mlxnode.server.registry.opened import TextModel

_ITEM_COST = 100  # characters that take as long as a message or a tool without text


@dataclass(frozen=True)
class Asked:
    """A conversation as the model gets it: fitted to its template, and as token ids."""

    conversation: Conversation
    tools: ToolUse | None
    prompt: ChatPrompt


async def ask(
    conversation: Conversation, model: TextModel, *, size: int, limit: int | None = None
) -> Asked:
    """Render ``conversation`` for ``model``. ``size``: bytes of the body that it comes from.

    Raises:
        InvalidRequest: the model's template cannot express the conversation.
        TooLong: the prompt has more than ``limit`` tokens.
    """
    texts = sum(len(message["content"]) for message in conversation.messages)
    items = len(conversation.messages) + len(conversation.functions)
    size = max(size, texts + items * _ITEM_COST)
    return await in_lane(model.tokenizer.threads, size, _ask, conversation, model, limit)


def _ask(conversation: Conversation, model: TextModel, limit: int | None) -> Asked:
    template = model.tokenizer.chat_template
    conversation = with_safe_names(conversation)
    tools = tool_use(conversation, template.notation)
    conversation = template.settle(conversation, tools, model.served.thinking_budget)
    prompt = model.tokenizer.chat_prompt(conversation, tools, limit)
    return Asked(conversation, tools, prompt)


async def chat_request(
    conversation: Conversation,
    settings: Settings,
    model: TextModel,
    *,
    size: int,
    closed: bool,
) -> GenerationRequest:
    """The request for the answer to ``conversation``; ``size``: as ``ask`` has it.

    ``closed``: objects have no members but those that their schema names.

    Raises:
        InvalidRequest: the model's template cannot express the conversation, the prompt is
            too long, a schema cannot be enforced, or parameters contradict each other.
    """
    context_length = model.served.context_length
    try:
        asked = await ask(conversation, model, size=size, limit=context_length)
    except TooLong as error:
        raise refusal(str(error), context_length, settings.param) from error
    conversation, tools = asked.conversation, asked.tools
    ids, is_reasoning, borders = asked.prompt
    template = model.tokenizer.chat_template
    prompt = fit_prompt(
        ids,
        context_length,
        requested=settings.max_tokens,
        borders=borders,
        param=settings.param,
    )
    grammar = await answer_grammar(
        conversation.constraint,
        tools,
        Writing(
            notation=template.notation,
            tokens=model.tokenizer.marker_tokens,
            is_reasoning=is_reasoning,
            may_think=not is_reasoning and template.decides_to_think,
        ),
        closed=closed,
    )
    samplings = samplings_of(
        settings,
        model,
        grammar=grammar,
        grammar_after=model.thinking.ends if is_reasoning and model.thinking else (),
        thinking=thinking_limit(
            model, conversation.thinking_budget, tools=tools, is_open=is_reasoning
        ),
    )
    return GenerationRequest(
        model=model,
        prompts=[prompt],
        samplings=samplings,
        num_choices=settings.num_choices,
        stop_ids=stop_ids_of(settings, model),
        stop_strings=settings.stop_strings,
        new_parser=functools.partial(
            OutputParser,
            template.notation,
            tools=tools,
            is_thinking=is_reasoning,
            is_expected_to_think=not is_reasoning and template.expects_thoughts(conversation),
        ),
        has_logprobs=settings.num_logprobs is not None,
    )
