"""A chat against a server, without a terminal."""

from collections.abc import Iterator

import pytest
from support.fake_api import DONE, FakeApi, chunk, event, says

from mlxnode.chat.session import Session
from mlxnode.client.answer import Piece
from mlxnode.client.connect import Connection, Wanted
from mlxnode.client.events import BROKEN


class Typed:
    """A reader of these messages; an exception is raised in its place."""

    def __init__(self, *messages):
        self._messages = iter(messages)

    def read(self) -> str:
        message = next(self._messages, EOFError())
        if isinstance(message, str):
            return message
        raise message


class Screen:
    """A view that remembers, and that is interrupted at some piece."""

    def __init__(self, interrupt_at: str | None = None):
        self.text = ""
        self._interrupt_at = interrupt_at

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.text += "\n"

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        if piece.text == self._interrupt_at:
            raise KeyboardInterrupt


@pytest.fixture
def api():
    with FakeApi() as server:
        yield server


def chat(api: FakeApi, *messages, screen: Screen | None = None, **options) -> tuple[str, str]:
    """What was drawn and what was said."""
    said: list[str] = []
    screen = screen or Screen()
    with Connection(Wanted(api.url), None, ["chat"], said.append) as connection:
        Session(connection, Typed(*messages), lambda _: screen, said.append, **options).run()
    return screen.text, "\n".join(said)


def asked(api: FakeApi, number: int = -1) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in api.bodies[number]["messages"]]


def test_session_keeps_the_conversation(api):
    drawn, _ = chat(api, "Hi", "/system Be brief.", "And?", "/bye", "never")
    assert drawn == "Hello there.\nHello there.\n"
    assert asked(api) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello there."),
        ("user", "And?"),
    ]
    assert len(api.bodies) == 2


def test_stopped_answer_keeps_its_part_and_ends_at_the_server(api):
    def endless(_) -> Iterator[bytes]:
        yield chunk("some ")
        yield chunk("STOP")
        while not api.left.is_set():
            yield chunk("x")

    api.script = endless
    _, said = chat(api, "Hi", "/save", screen=Screen("STOP"))
    assert api.left.wait(20) and "stopped" in said
    api.script = says("ok")
    with Connection(Wanted(api.url), None, ["chat"], lambda _: None) as connection:
        session = Session(connection, Typed("a", "b"), lambda _: Screen("ok"), lambda _: None)
        session.run()
    assert asked(api) == [("user", "a"), ("assistant", "ok"), ("user", "b")]


def test_question_without_an_answer_is_not_kept_and_can_be_retried(api):
    api.refusal = (400, {"error": {"message": "the context is full"}})
    said: list[str] = []

    def heal(text: str) -> None:
        said.append(text)
        if "/clear begins anew" in text:
            api.refusal = None

    with Connection(Wanted(api.url), None, ["chat"], heal) as connection:
        Session(connection, Typed("Hi", "/retry"), lambda _: Screen(), heal).run()
    assert asked(api) == [("user", "Hi")] and len(api.bodies) == 2


def test_answer_that_breaks_off_is_survived(api):
    api.script = lambda _: iter([chunk("half")])
    _, said = chat(api, "Hi", "again")
    assert said.count(f"mlxnode: {BROKEN}") == 2
    assert asked(api) == [("user", "Hi"), ("assistant", "half"), ("user", "again")]
    api.script = lambda _: iter([chunk("half"), event({"error": {"message": "gone"}}), DONE])
    assert "mlxnode: gone" in chat(api, "Hi")[1]


def test_retry_asks_the_last_question_again(api):
    chat(api, "one", "two", "/retry")
    assert asked(api, 1) == asked(api, 2)


def test_clear_forgets_the_messages_but_not_the_system_message(api):
    chat(api, "/system S", "one", "/clear", "two")
    assert asked(api) == [("system", "S"), ("user", "two")]


def test_parameters_are_set_shown_and_unset(api):
    _, said = chat(api, "/set temperature 0.3", "/set", "a", "/unset temperature", "b")
    assert "temperature = 0.3" in said
    assert api.bodies[0]["temperature"] == 0.3 and "temperature" not in api.bodies[1]
    _, said = chat(api, "/set heat 3", "/set heat", "/set top_k x", "/unset nope")
    assert said.count("there is no parameter heat") == 2
    assert "top_k must be a whole number" in said and "nope is not set" in said


def test_model_is_changed_to_one_that_exists(api):
    api.models = [{"id": "fake"}, {"id": "other"}, {"id": "v", "type": "embedding"}]
    _, said = chat(api, "/model", "/model other", "hi", "/model v", "/model no")
    assert "* fake" in said and api.bodies[0]["model"] == "other"
    assert "v is of type embedding" in said and "no model no" in said


def test_saved_chat_is_loaded_in_another(api, tmp_path):
    file = tmp_path / "talk.md"
    chat(api, "/system S", "one", f"/save {file}", "two", f"/save {file}")
    chat(api, f"/load {file}", "three")
    assert [text for _, text in asked(api)][::2] == ["S", "Hello there.", "Hello there."]
    _, said = chat(api, f"/save {file}", "/load nope.json", "/save", f"/save! {file}")
    assert "exists; /save! replaces it" in said and "nope.json: cannot be read" in said
    assert "/save needs the name of a file" in said


def test_ctrl_c_twice_leaves_and_once_does_not(api):
    _, said = chat(
        api, KeyboardInterrupt(), "hi", KeyboardInterrupt(), KeyboardInterrupt(), "no"
    )
    assert len(api.bodies) == 1 and said.count("ctrl-C once more") == 2


def test_verbose_tells_figures_and_length_is_told(api):
    api.script = lambda _: iter([chunk("a"), chunk("b", finish="length"), DONE])
    _, said = chat(api, "hi", is_verbose=True)
    assert "2 tokens, " in said and "tokens/s, first token after" in said
    assert "max_tokens" in said


def test_text_that_is_no_utf8_is_sent_all_the_same(api):
    chat(api, "a\udcffb")
    assert asked(api) == [("user", "a\ufffdb")]
