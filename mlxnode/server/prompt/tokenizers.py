"""Text to token ids and back, without mlx: chat templates, encoding, detokenizing.

``mlx_lm`` itself imports mlx, but its tokenizer modules import only transformers: they
are loaded below an empty package object of the same name and path.
"""

import asyncio
import functools
import importlib.util
import json
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tokenizers.decoders import DecodeStream

from mlxnode.errors import ModelError
from mlxnode.server.prompt.templates import ChatTemplate, Conversation
from mlxnode.server.prompt.token_text import TokenText

logger = logging.getLogger("mlxnode.server")

Result = TypeVar("Result")

LARGE_TEXT = 20_000  # characters; beyond, tokenizing would hold up the event loop
# What comes before a text with a gap, in place of the gap, and before what fills it: Qwen and
# CodeGemma, StarCoder, CodeLlama, DeepSeek.
_FILL_IN_THE_MIDDLE = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
    (
        "<\uff5cfim\u2581begin\uff5c>",
        "<\uff5cfim\u2581hole\uff5c>",
        "<\uff5cfim\u2581end\uff5c>",
    ),
)
# Some decoders drop a space at the beginning of a text: they must see that it goes on.
_CONTEXT_TOKENS = 6


def import_tokenizer_utils() -> types.ModuleType:
    """``mlx_lm.tokenizer_utils``, imported without running ``mlx_lm/__init__.py``."""
    if "mlx_lm" not in sys.modules:
        spec = importlib.util.find_spec("mlx_lm")
        sys.modules["mlx_lm"] = importlib.util.module_from_spec(spec)
    return importlib.import_module("mlx_lm.tokenizer_utils")


class ChatPrompt(NamedTuple):
    """Token ids, and whether they leave off in the middle of the model's reasoning."""

    ids: list[int]
    is_reasoning: bool


class TextTokenizer:
    """The tokenizer of a model that generates text. Safe to call from several threads."""

    def __init__(self, folder: Path):
        """Load from ``folder``.

        Raises:
            ModelError: the folder's tokenizer cannot be loaded.
        """
        try:
            self._wrapper = import_tokenizer_utils().load(folder)
            # The Rust tokenizer itself: transformers' own encode sets truncation on the
            # shared object at each call, which fails when another thread is encoding.
            self._tokenizer = self._wrapper.backend_tokenizer
            self.stop_ids = sorted(self._wrapper.eos_token_ids | _read_eos_ids(folder))
        except Exception as error:  # tokenizers raises it bare for a file it cannot use
            raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._bos_id: int | None = self._wrapper.bos_token_id
        self.has_chat_template: bool = self._wrapper.has_chat_template
        self.chat_template = ChatTemplate(self._wrapper)
        self.vocabulary_size: int = len(self._wrapper)
        # Tokens that detokenizers leave out, with their texts.
        self.special_tokens: dict[int, str] = {
            id: token.content
            for id, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }

    @functools.cached_property
    def fill_in_the_middle(self) -> tuple[str, str, str] | None:
        """The tokens before a prefix, before its suffix, and before what is between."""
        for markers in _FILL_IN_THE_MIDDLE:
            if None not in map(self._tokenizer.token_to_id, markers):
                return markers
        return None

    @functools.cached_property
    def token_text(self) -> TokenText:
        """What each token stands for, made when log-probabilities are first asked for."""
        return TokenText(self._tokenizer)

    async def encode_chat(self, conversation: Conversation) -> "ChatPrompt":
        """The prompt that the model's template makes of ``conversation``.

        Raises:
            InvalidRequest: the template does not accept these messages.
        """
        size = sum(len(message["content"]) for message in conversation.messages)
        return await off_loop_if(size > LARGE_TEXT, self._encode_chat, conversation)

    async def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of plain prompts, with the special tokens that the model begins with."""
        size = sum(map(len, texts))
        return await off_loop_if(size > LARGE_TEXT, self._encode, texts)

    def detokenizer(self, prompt: list[int]) -> "Detokenizer":
        """A detokenizer for the text that continues ``prompt``."""
        context = prompt[-_CONTEXT_TOKENS:]
        if self._tokenizer.decode(context).endswith("\ufffd"):
            context = []  # Token ids that end within a character: its first half is not ours.
        return Detokenizer(self._tokenizer, context)

    def decode(self, tokens: list[int]) -> str:
        """The text of a whole prompt, special tokens left out."""
        return self._tokenizer.decode(tokens)

    def _encode_chat(self, conversation: Conversation) -> "ChatPrompt":
        text = self.chat_template.render(conversation)
        is_reasoning = False
        if self.chat_template.thinking is not None:
            begin, end = self.chat_template.thinking
            if conversation.continues:
                last = conversation.messages[-1]["content"]
                is_reasoning = last.rfind(begin) > last.rfind(end)
            else:
                is_reasoning = text.rstrip().endswith(begin)
            if conversation.reasons and not is_reasoning:
                text, is_reasoning = f"{text}{begin}\n", True
        # The template writes the special tokens itself.
        [ids] = self._encode_batch([text], add_special_tokens=False)
        return ChatPrompt(ids, is_reasoning)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded = self._encode_batch(texts, add_special_tokens=True)
        for ids in encoded:
            # A prompt that was written with the token that the tokenizer adds by itself.
            if self._bos_id is not None and ids[:2] == [self._bos_id, self._bos_id]:
                del ids[0]
        return encoded

    def _encode_batch(self, texts: list[str], *, add_special_tokens: bool) -> list[list[int]]:
        # Unlike ``encode``, ``encode_batch`` releases the GIL: streams go on meanwhile.
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in encodings]


class Detokenizer:
    """Text from the tokens of one choice, one at a time, never a part of a character.

    Special tokens give no text. Bytes that end the text without completing a character
    are dropped.
    """

    def __init__(self, tokenizer: Any, context: list[int]):
        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=context, skip_special_tokens=True)

    def feed(self, token: int) -> str:
        """The text that ``token`` completes, "" if none."""
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except Exception as error:  # The Rust error has no class of its own.
            # Byte sequences that are no UTF-8 may change the text that was already given.
            logger.debug("detokenizer restarted: %s", error)
            self._stream = DecodeStream(ids=[], skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token) or ""


async def off_loop_if(large: bool, function: Callable[..., Result], *args: Any) -> Result:
    """Call ``function``, in a thread when that would hold up the event loop."""
    return await asyncio.to_thread(function, *args) if large else function(*args)


def _read_eos_ids(folder: Path) -> set[int]:
    """End-of-sequence ids from the model's files; a chat model often has several."""
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            value = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            ids.update([value] if isinstance(value, int) else value or ())
    return ids
