"""The response bodies of ``/tokenize`` and ``/detokenize``."""

from msgspec import Struct


class Piece(Struct):
    """A token and its text, or its bytes if they are a part of a character."""

    id: int
    piece: str | list[int]


class Tokenization(Struct):
    """``token_strs`` are the tokens as the vocabulary writes them, if they were asked for."""

    count: int
    max_model_len: int
    tokens: list[int | Piece]
    token_strs: list[str] | None = None


class Detokenization(Struct):
    """The text, by vLLM's name and by llama.cpp's."""

    prompt: str
    content: str
