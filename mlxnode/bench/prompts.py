"""Prompts and sampling parameters of requests, each made from a seed."""

import random
from typing import TypedDict

_STORY = "the river runs past an old mill where people meet on market days to talk"

# A text, or token ids of the demo model.
Prompt = str | list[int]


class SamplingFields(TypedDict, total=False):
    """The sampling fields of a request body."""

    temperature: float
    top_p: float
    frequency_penalty: float
    seed: int


def random_words(seed: int, count: int) -> str:
    return " ".join(random.Random(seed).choices(_STORY.split(), k=count))


def text_prompt(seed: int, num_words: int | None = None) -> str:
    """A prompt of 40, 200 or 800 tokens, or of ``num_words`` words.

    The prompt starts with its seed, so two prompts share no prefix.
    """
    num_words = num_words or (30, 160, 640)[seed % 3]
    words = random_words(seed, num_words)
    return f"{seed} is the number of a story. Continue this at length: {words}"


def token_prompt(seed: int) -> list[int]:
    """A prompt of 40, 200 or 800 random tokens."""
    return random.Random(seed).choices(range(20, 40_000), k=(40, 200, 800)[seed % 3])


def mixed_sampling(seed: int) -> SamplingFields:
    """Sampling parameters that differ between the requests of a batch."""
    return {"temperature": 0.7 + 0.01 * (seed % 16), "top_p": 0.9}


def undrafted_sampling(seed: int) -> SamplingFields:
    """The same with a penalty: mlxnode then drafts no tokens, so tokens come one at a time."""
    return mixed_sampling(seed) | {"frequency_penalty": 0.01}
