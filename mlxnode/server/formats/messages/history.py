"""From the messages of a request to the form that chat templates take."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from mlxnode.server.formats.messages.blocks import Block, ResultPart, Source, TextPart
from mlxnode.server.formats.messages.blocks import Message as WireMessage
from mlxnode.server.formats.messages.schema import PromptBody
from mlxnode.server.formats.thoughts import unseal
from mlxnode.server.prompt.conversation import Breakpoint, Message, ToolCall
from mlxnode.server.prompt.history import arguments_of, link_results

_MAX_BREAKPOINTS = 4  # as many as Anthropic takes: each costs a rendering of the prompt
_ERROR = "Error: "
_PARAGRAPH = "\n\n"  # between texts that a client has put side by side


class _Cut(Message, total=False):
    """A message that other prompts may share up to some lengths of its content."""

    cuts: list[int]


class _Text(NamedTuple):
    """A content, and the lengths at which a part with ``cache_control`` ends."""

    content: str
    cuts: list[int]


def to_messages(body: PromptBody) -> tuple[list[Message], tuple[Breakpoint, ...]]:
    """The conversation, and where the client says that others may part from it."""
    drafts = [*_system(body.system)]
    for message in body.messages:
        drafts += _to_drafts(message)
    # A message of the system may only add or remove tools.
    drafts = [d for d in drafts if d["content"] or d["role"] != "system"] or drafts
    messages = link_results(cast(list[Message], drafts))
    breakpoints: list[Breakpoint] = []
    for index, message in enumerate(messages):
        cuts = cast(_Cut, message).pop("cuts", [])[-_MAX_BREAKPOINTS:]
        heads = (message["content"][:cut] for cut in cuts)
        breakpoints += [Breakpoint(index - len(messages), head) for head in heads]
        del breakpoints[:-_MAX_BREAKPOINTS]
    return messages, tuple(breakpoints)


def _system(system: str | list[TextPart] | None) -> Iterator[_Cut]:
    if isinstance(system, str):
        system = [TextPart(type="text", text=system)]
    text = _joined((part.text, part.cache_control is not None) for part in system or ())
    if text.content:
        yield _draft("system", text)


def _to_drafts(message: WireMessage) -> Iterator[_Cut]:
    content = message.content or ""
    if isinstance(content, str):
        yield _draft(message.role, _Text(content, []))
    elif message.role == "assistant":
        yield _answer(content)
    elif not content:
        yield _draft(message.role, _Text("", []))
    else:
        yield from _asked(message.role, content)


def _asked(role: str, blocks: list[Block]) -> Iterator[_Cut]:
    """Results of tools, and what the user says beside them."""
    for is_result, group in itertools.groupby(blocks, _is_result):
        if is_result:
            yield from map(_result, group)
        else:
            texts = ((_text_of(block), block.cache_control is not None) for block in group)
            yield _draft(role, _joined(texts))


def _is_result(block: Block) -> bool:
    return block.type == "tool_result"


def _result(block: Block) -> _Cut:
    text, cuts = _parts(block.content)
    if block.is_error and "error" not in text[:100].lower():
        text = f"{_ERROR}{text}"  # templates have no other place to say so
        cuts = [cut + len(_ERROR) for cut in cuts]
    if block.cache_control is not None:
        cuts.append(len(text))
    draft = _draft("tool", _Text(text, cuts))
    draft["tool_call_id"] = block.tool_use_id or ""
    return draft


def _answer(blocks: list[Block]) -> _Cut:
    """An earlier answer. Its texts are parts of one, as the model wrote it."""
    text = _joined(((b.text or "", b.cache_control is not None) for b in blocks), "")
    answer = _draft("assistant", text)
    thoughts = (b.thinking or unseal(b.signature or "") or "" for b in blocks)
    if reasoning := "".join(thoughts):
        answer["reasoning_content"] = reasoning
    calls = [_call(block) for block in blocks if block.type == "tool_use"]
    if calls:
        answer["tool_calls"] = calls
    return answer


def _call(block: Block) -> ToolCall:
    return {
        "id": block.id or "",
        "type": "function",
        "function": {"name": block.name or "", "arguments": arguments_of(block.input)},
    }


def _draft(role: str, text: _Text) -> _Cut:
    return {"role": role, "content": text.content, "cuts": text.cuts}


def _joined(parts: Iterable[tuple[str, bool]], separator: str = _PARAGRAPH) -> _Text:
    """The texts of ``parts`` as one; after some of them, other prompts may part."""
    texts: list[str] = []
    cuts: list[int] = []
    length = 0
    for text, is_cut in parts:
        if text:
            texts.append(text)
            length += len(text) + (len(separator) if len(texts) > 1 else 0)
        if is_cut and length:
            cuts.append(length)
    return _Text(separator.join(texts), cuts)


# --- what other blocks say in words -------------------------------------------------------


def _text_of(block: Block) -> str:
    """What a block of the user says; "" for what only Anthropic's servers can read."""
    match block.type:
        case "document":
            source = block.source if isinstance(block.source, Source) else Source(type="text")
            return _titled(block, source.data or _parts(source.content).content)
        case "search_result":
            return _titled(block, _parts(block.content).content)
    return block.text or ""


def _titled(block: Block, text: str) -> str:
    origin = block.source if isinstance(block.source, str) else None
    heads = [head for head in (block.title, origin, block.context) if head]
    return "\n".join([*heads, text])


def _parts(content: object) -> _Text:
    """A content of parts, each in a line of its own; no text for what has none."""
    if not isinstance(content, list):
        return _Text(content if isinstance(content, str) else "", [])
    parts = cast(list[ResultPart], content)
    return _joined(((_words(part), part.cache_control is not None) for part in parts), "\n")


def _words(part: ResultPart) -> str:
    if part.text is not None:
        return part.text
    return f"[{part.type}: {part.tool_name or 'not shown to this model'}]"
