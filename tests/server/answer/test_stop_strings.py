import itertools

import pytest

from mlxnode.server.answer.stop_strings import StopStrings


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    watcher = StopStrings(stops)
    text = "".join(watcher.feed(piece) for piece in pieces)
    if not watcher.is_matched:
        text += watcher.flush()
    return text, watcher.is_matched


def cuttings(text: str) -> list[list[str]]:
    """Every way to cut ``text`` into pieces."""
    gaps = range(1, len(text))
    return [
        [text[a:b] for a, b in itertools.pairwise([0, *cut, len(text)])]
        for n in range(len(text))
        for cut in itertools.combinations(gaps, n)
    ]


@pytest.mark.parametrize(
    ("stops", "text", "shown", "matched"),
    [
        ([], "anything", "anything", False),
        (["END"], "a END b", "a ", True),
        (["END"], "a EN b", "a EN b", False),
        (["aab"], "aaaab", "aa", True),
        (["\n\n"], "x\n\ny", "x", True),
        (["abc", "b"], "xabcd", "xa", True),
        (["👍🏽"], "ok👍👍🏽!", "ok👍", True),
        (["ab", "abab"], "ababab", "", True),
        (["xyz"], "xyxyx", "xyxyx", False),
    ],
)
def test_stops_same_result_however_the_text_is_cut(stops, text, shown, matched):
    for pieces in cuttings(text):
        assert run(stops, pieces) == (shown, matched), pieces


def test_stops_hold_back_only_what_may_become_a_stop():
    watcher = StopStrings(["<end>"])
    assert watcher.feed("hello ") == "hello "
    assert watcher.feed("<en") == ""
    assert watcher.feed("tity>") == "<entity>"


def test_stops_show_nothing_after_a_match():
    watcher = StopStrings(["x"])
    assert watcher.feed("axb") == "a"
    assert watcher.feed("more") == ""
    assert watcher.flush() == ""


@pytest.mark.parametrize(
    ("stops", "text", "matched"),
    [
        (["END"], "a END b", "END"),
        (["two", "one"], "one two", "one"),
        (["long one", "one"], "a long one", "long one"),
        (["END"], "a EN", None),
        ([], "a", None),
    ],
)
def test_the_stop_string_that_matched_is_told(stops, text, matched):
    for pieces in cuttings(text):
        watcher = StopStrings(stops)
        for piece in pieces:
            watcher.feed(piece)
        assert watcher.matched == matched
