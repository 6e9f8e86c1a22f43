"""Answers on a screen."""

import io

import pytest
from rich.console import Console

from mlxnode.chat.drawing import MarkdownView, PlainView
from mlxnode.client.answer import Piece

ATTACK = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31mred\x08\x00\r"


def draw(*pieces: Piece, is_terminal: bool = True, **options) -> str:
    output = io.StringIO()
    console = Console(
        file=output, force_terminal=is_terminal, width=60, height=10, color_system=None
    )
    with MarkdownView(console, **options) as view:
        for piece in pieces:
            view.add(piece)
    return output.getvalue()


def content(text: str) -> list[Piece]:
    return [Piece("content", character) for character in text]


def test_markdown_is_drawn_once_and_whole():
    drawn = draw(*content("# Title\n\n- one\n- two\n\n```\ncode\n```\n"), is_terminal=False)
    assert drawn.count("Title") == drawn.count("• one") == drawn.count("code") == 1
    assert "#" not in drawn and "```" not in drawn


def test_long_answer_is_complete_on_a_small_screen():
    words = [f"word{i}" for i in range(300)]
    drawn = draw(*content("\n\n".join(words)), is_terminal=False)
    assert drawn.split() == words


@pytest.mark.parametrize("kind", ["content", "reasoning"])
def test_model_cannot_control_the_terminal(kind):
    drawn = draw(
        Piece(kind, ATTACK), Piece(kind, "[a](http://x/)\n\nend"), shows_reasoning=True
    )
    for sequence in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\x08", "\x00", "\x1b[31m"):
        assert sequence not in drawn.replace("\x1b[2K", "")
    output = io.StringIO()
    with PlainView(output, shows_reasoning=True) as view:
        view.add(Piece(kind, ATTACK))
    assert not {"\x1b", "\x9b", "\x07", "\x08", "\x00", "\r"} & set(output.getvalue())


def test_reasoning_is_folded_or_shown():
    pieces = [Piece("reasoning", "Let me see.\n" * 9), Piece("content", "42")]
    folded = draw(*pieces, is_terminal=False)
    assert "see" not in folded and "thought for" in folded and "42" in folded
    assert draw(*pieces, is_terminal=False, shows_reasoning=True).count("see") == 9


@pytest.mark.parametrize("shown", [False, True])
def test_plain_text_has_the_reasoning_only_if_it_is_asked_for(shown):
    output = io.StringIO()
    with PlainView(output, shows_reasoning=shown) as view:
        for piece in (Piece("reasoning", "Hm."), *content("a\tb\n")):
            view.add(piece)
    assert output.getvalue() == ("Reasoning:\nHm.\n\nAnswer:\na\tb\n" if shown else "a\tb\n")
