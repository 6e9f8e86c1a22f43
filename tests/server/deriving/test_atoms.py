"""Texts are compared without cutting markers, words or numbers."""

import pytest

from mlxnode.server.deriving.atoms import atoms, common_prefix, common_suffix, is_marker


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<|a|><b c>\n[CALL_ID]x9", ["<|a|>", "<b c>", "\n", "[CALL_ID]", "x", "9"]),
        ('{"name": "<tool', ["{", '"', "name", '"', ":", " ", '"', "<", "tool"]),
        ("[1, 23]", ["[", "1", ",", " ", "23", "]"]),
        ("", []),
    ],
)
def test_atoms_are_markers_words_numbers_and_characters(text, parts):
    assert atoms(text) == parts
    assert "".join(atoms(text)) == text


@pytest.mark.parametrize(
    ("atom", "is_one"),
    [("<think>", True), ("[/THINK]", True), ("<|x|>", True), ("[", False), ("word", False)],
)
def test_is_marker(atom, is_one):
    assert is_marker(atom) is is_one


def test_common_parts_end_between_atoms():
    assert common_prefix("<|tool_end|>x", "<|tool_begin|>x") == ""
    assert common_prefix("a tool", "a tools") == "a "
    assert common_suffix("<a><|begin|>", "<b><|begin|>") == "<|begin|>"
    assert common_suffix("index 10", "index 0") == ""
    assert common_prefix("same", "same") == common_suffix("same", "same") == "same"
