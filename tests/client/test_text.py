"""Text of a model or a server that is written to a terminal."""

from mlxnode.client.text import encodable, one_line, printable


def test_printable_leaves_no_control_character_but_tab_and_line_feed():
    every = "".join(map(chr, range(0x100)))
    kept = printable(every)
    assert [c for c in kept if ord(c) < 32] == ["\t", "\n"]
    assert not [c for c in kept if 0x7F <= ord(c) < 0xA0]
    assert printable("\x1b]0;title\x07\x1b[2Jé\u2028ß🙂") == "]0;title[2Jé\u2028ß🙂"


def test_encodable_replaces_halves_of_surrogate_pairs():
    assert encodable("a\ud800b\udc80") == "a\ufffdb\ufffd"


def test_one_line_is_one_line_of_a_bounded_length():
    assert one_line("a\r\n\tb\x1b[31m c") == "a b[31m c"
    assert one_line("x" * 20, 10) == "x" * 9 + "…"
