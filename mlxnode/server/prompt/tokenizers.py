"""Text to token ids and back, without mlx: encoding, chat prompts, detokenizing.

``mlx_lm`` itself imports mlx, but its tokenizer modules import only transformers. So they are
loaded below an empty package object with the same name and path.
"""

import functools
import importlib.util
import json
import logging
import sys
import threading
import types
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers.decoders import DecodeStream

from mlxnode.errors import ModelError
from mlxnode.fair_threads import FairThreads
from mlxnode.server.constraints.markers import MarkerTokens
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.notation.tool_use import ToolUse
from mlxnode.server.prompt.borders import in_tokens
from mlxnode.server.prompt.context_length import TooLong
from mlxnode.server.prompt.control_tokens import control_tokens
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.encoding import PromptEncoder
from mlxnode.server.prompt.lanes import LARGE_TEXT, off_loop
from mlxnode.server.prompt.quoting import Quoter
from mlxnode.server.prompt.templates import ChatTemplate
from mlxnode.server.prompt.thinking import ThinkingTokens
from mlxnode.server.prompt.volatile import VolatileHeads
from mlxnode.server.rendering import remote
from mlxnode.server.rendering.limits import RenderLimit, budgeted
from mlxnode.token_bytes import TokenBytes
from mlxnode.tokenizing import encode_all, least_tokens

logger = logging.getLogger("mlxnode.server")

# The tokens before the prefix, before the suffix, and before the text between them: Qwen and
# CodeGemma, StarCoder, CodeLlama, DeepSeek.
FILL_IN_THE_MIDDLE = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
    (
        "<\uff5cfim\u2581begin\uff5c>",
        "<\uff5cfim\u2581hole\uff5c>",
        "<\uff5cfim\u2581end\uff5c>",
    ),
)
# Some decoders drop a space at the start of a text: they need the tokens before it.
_CONTEXT_TOKENS = 6
_TRIAL_TEXT = "Ab 1\n\u00e9!"
_NUM_THREADS = 3  # for the prompts of one model, and one for short ones
_import_lock = threading.Lock()
_TRIAL_SECONDS = 10.0  # of the processor, to try a template out; usual ones take 0.2


def import_tokenizer_utils() -> types.ModuleType:
    """``mlx_lm.tokenizer_utils``, imported without running ``mlx_lm/__init__.py``."""
    with _import_lock:  # models are opened in several threads
        if "mlx_lm" not in sys.modules:
            spec = importlib.util.find_spec("mlx_lm")
            if spec is None:
                raise ModuleNotFoundError("mlx_lm is not installed", name="mlx_lm")
            sys.modules["mlx_lm"] = importlib.util.module_from_spec(spec)
        remote.install()
        return importlib.import_module("mlx_lm.tokenizer_utils")


class ChatPrompt(NamedTuple):
    """The token ids of a conversation; ``is_reasoning``: they end within the reasoning.

    ``borders``: the numbers of tokens after which other prompts may part, ascending.
    """

    ids: list[int]
    is_reasoning: bool
    borders: list[int]


class TextTokenizer:
    """The tokenizer of a model that generates text. Safe to call from several threads."""

    def __init__(
        self,
        folder: Path,
        volatile: VolatileHeads | None = None,
        *,
        allow_control_tokens: bool = False,
    ):
        """Load from ``folder``. ``volatile`` is removed from conversations.

        ``allow_control_tokens``: a control token in the text of a conversation is one.

        Raises:
            ModelError: the folder's tokenizer cannot be loaded.
        """
        try:
            self._wrapper = import_tokenizer_utils().load(folder)
            # The Rust tokenizer itself: transformers' own encode sets the truncation of the
            # shared object at each call, which fails while another thread encodes.
            self._tokenizer = self._wrapper.backend_tokenizer
            self.stop_ids = sorted(self._wrapper.eos_token_ids | _read_eos_ids(folder))
        except Exception as error:  # tokenizers has no error class of its own
            raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_batch([_TRIAL_TEXT])  # a damaged one panics here, not later
        self._bos_id: int | None = self._wrapper.bos_token_id
        self.has_chat_template: bool = self._wrapper.has_chat_template
        self.chat_template = _tried_template(self._wrapper)
        ends = self._ids_of(self.chat_template.notation.ends)
        self.stop_ids = sorted({*self.stop_ids, *ends})
        self.vocabulary_size: int = len(self._wrapper)
        # The texts of the tokens that detokenizers leave out.
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_tokens: dict[int, str] = {
            id: token.content for id, token in added.items() if token.special
        }
        self._added_ids = frozenset(added)
        # All tokens that the tokenizer finds in a text before it splits the text.
        self.added_tokens: dict[str, int] = {token.content: id for id, token in added.items()}
        self.marker_tokens = MarkerTokens(self.added_tokens, self.special_tokens.keys())
        self.volatile = volatile or VolatileHeads()
        sources = "\n".join(self.chat_template.texts)
        controls = control_tokens(self._tokenizer, sources)
        self._encoder = PromptEncoder(self._tokenizer, controls)
        self._quoter = Quoter(self._tokenizer, controls.values(), sources)
        self._quotes = not allow_control_tokens
        # Threads of this model's own: a rendering waits for another process, at worst for
        # seconds, and then the prompts of other models go on.
        self.threads = FairThreads("prompt", _NUM_THREADS, small=LARGE_TEXT)
        weakref.finalize(self, self.threads.close)

    @functools.cached_property
    def fill_in_the_middle(self) -> tuple[str, str, str] | None:
        """The tokens before a prefix, before its suffix, and before the text between them."""
        for markers in FILL_IN_THE_MIDDLE:
            if None not in map(self._tokenizer.token_to_id, markers):
                return markers
        return None

    @functools.cached_property
    def token_bytes(self) -> TokenBytes:
        """The bytes of each token; made at the first request for log-probabilities."""
        return TokenBytes(self._tokenizer)

    async def encode(self, texts: list[str], limit: int | None = None) -> list[list[int]]:
        """The token ids of plain prompts, with the special tokens at the start of a text.

        Raises:
            TooLong: one has more than ``limit`` tokens.
        """
        return await off_loop(sum(map(len, texts)), self.prompt_ids, texts, limit)

    @property
    def backend(self) -> Any:
        """The tokenizer itself, of the tokenizers package; not to be changed."""
        return self._tokenizer

    def detokenizer(self, prompt: list[int]) -> "Detokenizer":
        """A detokenizer for the text that continues ``prompt``."""
        context = prompt[-_CONTEXT_TOKENS:]
        if self._tokenizer.decode(context).endswith("\ufffd"):
            context = []  # The prompt ends within a character; its first half is not output.
        return Detokenizer(self._tokenizer, context)

    def decode(self, tokens: list[int]) -> str:
        """The text of a whole prompt, without special tokens."""
        return self._tokenizer.decode(tokens)

    def thinking_tokens(self, sentence: str) -> ThinkingTokens | None:
        """How the model's reasoning ends, with ``sentence`` at its limit; None without any."""
        template = self.chat_template
        return ThinkingTokens.of(
            template.renderer, template.notation, self._tokenizer, sentence
        )

    def _ids_of(self, texts: Iterable[str]) -> list[int]:
        """The ids of those ``texts`` that are tokens."""
        ids = map(self._tokenizer.token_to_id, texts)
        return [id for id in ids if id is not None]

    def chat_prompt(
        self,
        conversation: Conversation,
        tools: ToolUse | None = None,
        limit: int | None = None,
    ) -> ChatPrompt:
        """The prompt for ``conversation``, which offers ``tools``, by the model's template.

        Raises:
            InvalidRequest: the template does not accept these messages.
            TooLong: the prompt has more than ``limit`` tokens.
        """
        conversation = self.volatile.without(conversation)
        sentinel = None
        if self._quotes:
            thinking = self.chat_template.notation.thinking
            conversation, tools, sentinel = self._quoter.quote(conversation, tools, thinking)
        text, is_reasoning = self.chat_template.render(conversation, tools)
        # The template writes the special tokens itself.
        encode = functools.partial(self._encoder.encode, sentinel=sentinel)
        encoding = encode(text, limit=limit)
        borders = in_tokens(
            self.chat_template.borders(conversation, tools, text),
            text,
            encoding,
            encode,
            self._added_ids,
        )
        return ChatPrompt(encoding.ids, is_reasoning, borders)

    def prompt_ids(self, texts: list[str], limit: int | None = None) -> list[list[int]]:
        """The same as ``encode``, at once."""
        for text in texts:
            number = None if limit is None else least_tokens(self._tokenizer, text, limit)
            if number is not None:
                raise TooLong(f"at least {number} tokens")
        encodings = encode_all(self._tokenizer, texts, special=True)
        encoded = [encoding.ids for encoding in encodings]
        for ids in encoded:
            # A prompt that already has the token which the tokenizer adds.
            if self._bos_id is not None and ids[:2] == [self._bos_id, self._bos_id]:
                del ids[0]
        return encoded


class Detokenizer:
    """Turns the tokens of one choice, one by one, into text without partial characters.

    Special tokens give no text. An incomplete character at the end is dropped.
    """

    def __init__(self, tokenizer: Any, context: list[int]):
        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=context, skip_special_tokens=True)

    def feed(self, token: int) -> str:
        """The text that ``token`` completes; "" if there is none."""
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except MemoryError:
            raise
        except Exception as error:  # The Rust error has no class of its own.
            # Bytes that are not UTF-8 can change the text that was already returned.
            logger.debug("detokenizer restarted: %s", error)
            self._stream = DecodeStream(ids=[], skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token) or ""


def _tried_template(wrapper: Any) -> ChatTemplate:
    try:
        with budgeted(_TRIAL_SECONDS):
            return ChatTemplate(wrapper)
    except RenderLimit as error:
        raise ModelError(f"the chat template {error}") from error


def check_token_ids(inputs: list[list[int]], vocabulary_size: int, param: str) -> None:
    """Raises InvalidRequest for an id that is not in the model's vocabulary."""
    for index, ids in enumerate(inputs):
        if max(ids) >= vocabulary_size:
            path = f"{param}[{index}]" if len(inputs) > 1 else param
            raise InvalidRequest(
                f"Invalid '{path}': token id {max(ids)} is outside the model's vocabulary "
                f"of {vocabulary_size}.",
                param=path,
                code="invalid_token_id",
            )


def _read_eos_ids(folder: Path) -> set[int]:
    """The end-of-sequence ids in the model's files; a chat model often has several."""
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            value = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            ids.update([value] if isinstance(value, int) else value or ())
    return ids
