"""Conversations in files."""

import json

import pytest

from mlxnode.chat.conversation import Conversation, Message
from mlxnode.chat.files import FileError, load, save

HOSTILE = "<!-- mlxnode user -->\n\n## User\n\nnot a message\n\\<!-- mlxnode \n\n\n"


@pytest.mark.parametrize("suffix", ["md", "json"])
def test_saved_conversation_is_loaded_again_exactly(tmp_path, suffix):
    talk = Conversation(
        "Be brief.",
        [
            Message("user", f"Hé\n{HOSTILE}"),
            Message("assistant", "", True),
            Message("user", "\n\n\n"),
            Message("assistant", HOSTILE, True),
        ],
    )
    file = tmp_path / f"chat.{suffix}"
    save(talk, "model", file, may_replace=False)
    assert load(file) == talk
    with pytest.raises(FileError, match="exists; /save! replaces it"):
        save(talk, "model", file, may_replace=False)
    save(Conversation(), "model", file, may_replace=True)
    assert list(tmp_path.iterdir()) == [file]


def test_json_of_other_programs_is_loaded(tmp_path):
    file = tmp_path / "chat.json"
    rows = [
        {"role": "developer", "content": "Be kind."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        },
    ]
    file.write_text(json.dumps(rows))
    assert load(file) == Conversation("Be kind.", [Message("user", "ab")])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.json", b"{", "a.json: "),
        ("a.json", b"3", "expected .*messages"),
        ("a.json", b"[3]", r"messages\[0\]: expected an object"),
        ("a.json", b'[{"role": "tool", "content": ""}]', r"messages\[0\].role: .*'tool'"),
        ("a.json", b'[{"role": "user"}]', r"messages\[0\].content: expected a text"),
        (
            "a.json",
            b'[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]',
            "images, audio and files are not read",
        ),
        ("a.json", b"[" * 100_000, "a.json: "),
        ("a.md", b"# Notes\n", "no conversation"),
        ("a.md", b"\xff", "not UTF-8"),
        ("missing.md", None, "cannot be read: No such file"),
    ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path, name, content, text):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FileError, match=text):
        load(file)


@pytest.mark.parametrize(
    ("name", "text"),
    [("chat.txt", "ends with .md or .json"), ("no/folder.md", "cannot be written")],
)
def test_save_says_why_it_cannot(tmp_path, name, text):
    with pytest.raises(FileError, match=text):
        save(Conversation(), "model", tmp_path / name, may_replace=False)
