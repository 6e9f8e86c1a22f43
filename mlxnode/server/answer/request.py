"""A request for generated text, free of any wire format."""

from collections.abc import Callable
from dataclasses import dataclass

from mlxnode.messages.data import Sampling
from mlxnode.server.parsing.output_parser import OutputParser
from mlxnode.server.prompt.context_length import Prompt
from mlxnode.server.registry.opened import TextModel

# Tokens. Few answers are longer. Clients set max_tokens far above what they expect (agents send
# 32,000) or not at all, so that it says nothing about the length of the answer.
_USUAL_ANSWER = 1024


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """The parameters of the engine's sequences, and of the reading of their output.

    The engine continues each of ``prompts`` once with each of ``samplings``: these are its
    candidates. The answer holds the ``num_choices`` most likely candidates of each prompt.
    ``new_parser`` makes the parser of one candidate. ``stop_ids`` are known to the engine,
    ``stop_strings`` are searched in the content only.
    """

    model: TextModel
    prompts: list[Prompt]
    samplings: list[Sampling]
    num_choices: int
    stop_ids: list[int]
    stop_strings: list[str]
    new_parser: Callable[[], OutputParser] = OutputParser
    has_logprobs: bool = False  # the answer reports log-probabilities
    echoes_prompt: bool = False  # the answer starts with the prompt
    discards_output: bool = False  # the answer has no generated text, only the prompt's scores

    @property
    def num_candidates(self) -> int:
        """The number of candidates for each prompt."""
        return len(self.samplings)

    @property
    def num_prompt_tokens(self) -> int:
        return sum(len(prompt.ids) for prompt in self.prompts)

    @property
    def num_expected_tokens(self) -> int:
        """The tokens to expect in the answer, where no candidate is longer than usual."""
        usual = sum(min(prompt.max_tokens, _USUAL_ANSWER) for prompt in self.prompts)
        return self.num_candidates * usual

    @property
    def clamped_to(self) -> int | None:
        """The most tokens of an answer that the context has made shorter than requested."""
        clamped = [prompt.max_tokens for prompt in self.prompts if prompt.is_clamped]
        return min(clamped, default=None)
