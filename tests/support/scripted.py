"""A chat model that writes what a test wants, special tokens included.

A GPT-2 of one block whose attention and MLP are zero: the next token depends on the position
alone. Each learned position is a large multiple of the embedding of the token to be written
there. So a script is tied to the length of a prompt, and prompts of different lengths share one
model. Written with numpy alone.
"""

import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from support.notation_pieces import Family
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.notation.notation import PLAIN_CALLS, CallNotation, Notation
from mlxnode.server.prompt.tokenizers import ChatPrompt, TextTokenizer
from mlxnode.server.prompt.tools import tool_use
from mlxnode.server.reading.validation import validate

END = "<|scripted_end|>"  # the end-of-sequence token
WIDTH = 64  # of the embeddings
SCALE = 12.0  # so that a sampled token is the scripted one, and a mask decides among the others
# Tokens that their families add without making them special.
_ADDED = {f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "tool_call")}
FILLER = " ."  # moves a script to positions that are free


def write_tokenizer(
    folder: Path, template: str, special: Sequence[str], added: Sequence[str] = ()
) -> Tokenizer:
    """A byte tokenizer: END, ``special`` tokens, and ``added`` ones that are not special."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: id for id, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, *special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "bos_token": special[0] if special else END,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


class ScriptedModel:
    """Collects scripts; ``save`` writes the checkpoint."""

    def __init__(
        self,
        folder: Path,
        template: str,
        *,
        special: Sequence[str] = (),
        added: Sequence[str] = (),
        num_positions: int = 16_384,
    ):
        """``special`` and ``added`` are the family's tokens; decoders leave out the first."""
        self.folder = folder
        self.num_positions = num_positions
        self._tokenizer = write_tokenizer(folder, template, special, added)
        self._next: dict[int, int] = {}  # the token to write after each position

    @classmethod
    def of(cls, folder: Path, family: Family) -> "ScriptedModel":
        """A model of ``family``, whose tokens are special but for the usual exceptions."""
        special = [token for token in family.tokens if token not in _ADDED]
        added = [token for token in family.tokens if token in _ADDED]
        return cls(folder, family.template, special=special, added=added)

    def script(self, body: dict[str, Any], text: str) -> dict[str, Any]:
        """``body``, whose answer will be ``text``."""
        return self.script_turns([body], [text])[0]

    def script_turns(
        self, bodies: Sequence[dict[str, Any]], texts: Sequence[str]
    ) -> list[dict[str, Any]]:
        """``bodies``, whose answers will be ``texts``: the turns of one conversation.

        The first message of the user gets a filler at its end where the positions after a
        prompt are taken by another script.
        """
        end = self._tokenizer.token_to_id(END)
        answers = [[*self._encode(text), end] for text in texts]
        while True:
            starts = [len(self.prompt_ids(body)) - 1 for body in bodies]
            places = [
                range(start, start + len(ids))
                for start, ids in zip(starts, answers, strict=True)
            ]
            if any(before.stop > after.start for before, after in itertools.pairwise(places)):
                raise ValueError(f"an answer reaches into the next prompt: {places}")
            if places[-1].stop > self.num_positions:
                raise ValueError(f"a script ends at {places[-1].stop}")
            if not any(place in self._next for turn in places for place in turn):
                break
            bodies = [_filled(body, max(self._next) + 2 - starts[0]) for body in bodies]
        for turn, ids in zip(places, answers, strict=True):
            self._next.update(zip(turn, ids, strict=True))
        return list(bodies)

    @property
    def notation(self) -> Notation:
        return self._tokenizer_of_worker.chat_template.notation

    @property
    def calls(self) -> CallNotation:
        """How the model writes calls, in its own notation or the plain one."""
        return self.notation.calls or PLAIN_CALLS

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``, special tokens included."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def num_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def prompt_ids(self, body: dict[str, Any]) -> list[int]:
        """The prompt of ``body``, as a worker makes it."""
        return self._prompt(body).ids

    def is_reasoning(self, body: dict[str, Any]) -> bool:
        """True if the prompt of ``body`` ends within the reasoning."""
        return self._prompt(body).is_reasoning

    def _prompt(self, body: dict[str, Any]) -> ChatPrompt:
        parsed, _ = validate(ChatBody, {"model": "m"} | body)
        conversation = to_conversation(parsed)
        tools = tool_use(conversation, self.notation)
        tokenizer = self._tokenizer_of_worker
        conversation = tokenizer.chat_template.settle(conversation, tools)
        return tokenizer.chat_prompt(conversation, tools)

    @functools.cached_property
    def _tokenizer_of_worker(self) -> TextTokenizer:
        return TextTokenizer(self.folder)

    def save(self) -> Path:
        """Write config and weights."""
        size = self._tokenizer.get_vocab_size()
        config = {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_ctx": self.num_positions,
            "n_positions": self.num_positions,
            "max_position_embeddings": self.num_positions,
            "n_embd": WIDTH,
            "n_head": 1,
            "n_layer": 1,
            "layer_norm_epsilon": 1e-5,
            "vocab_size": size,
            "eos_token_id": self._tokenizer.token_to_id(END),
        }
        (self.folder / "config.json").write_text(json.dumps(config))
        save_file(
            self._weights(size), self.folder / "model.safetensors", metadata={"format": "mlx"}
        )
        return self.folder

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _weights(self, size: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(0)
        tokens = random.normal(size=(size, WIDTH)).astype(np.float32)
        tokens -= tokens.mean(axis=1, keepdims=True)  # the layer norm does this to their sums
        tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
        # A position without a script ends the text.
        following = np.full(self.num_positions, self._tokenizer.token_to_id(END))
        for place, token in self._next.items():
            following[place] = token
        return {
            "wte.weight": tokens,
            "wpe.weight": 100 * tokens[following],
            "ln_f.weight": np.full(WIDTH, SCALE, np.float32),
            "ln_f.bias": np.zeros(WIDTH, np.float32),
            **_block("h.0."),
        }


def _block(prefix: str) -> dict[str, np.ndarray]:
    """A block that adds nothing."""
    sizes = {
        "attn.c_attn": (WIDTH, 3 * WIDTH),
        "attn.c_proj": (WIDTH, WIDTH),
        "mlp.c_fc": (WIDTH, 4 * WIDTH),
        "mlp.c_proj": (4 * WIDTH, WIDTH),
    }
    block = {f"{prefix}ln_{i}.weight": np.ones(WIDTH, np.float32) for i in (1, 2)}
    block |= {f"{prefix}ln_{i}.bias": np.zeros(WIDTH, np.float32) for i in (1, 2)}
    for name, (inputs, outputs) in sizes.items():
        block[f"{prefix}{name}.weight"] = np.zeros((inputs, outputs), np.float32)
        block[f"{prefix}{name}.bias"] = np.zeros(outputs, np.float32)
    return block


def _filled(body: dict[str, Any], count: int) -> dict[str, Any]:
    """``body`` with about ``count`` tokens more in the first message of the user."""
    messages = [dict(message) for message in body["messages"]]
    first = next(message for message in messages if message["role"] == "user")
    first["content"] += FILLER * -(-count // len(FILLER))
    return {**body, "messages": messages}
