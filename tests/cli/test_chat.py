"""``mlxnode chat`` and ``run``: piped, in a terminal, and with a node of their own."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import tiny
from support.fake_api import FakeApi, chunk, says
from support.node_process import is_running
from support.pseudo_terminal import Terminal

pytestmark = pytest.mark.slow

CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
PASTE = "\x1b[200~{}\x1b[201~"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """No configuration, and a state folder of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLXNODE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MLXNODE_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "mlxnode", *arguments]


def run(*arguments: str, said: bytes | None = None, timeout: float = 60):
    return subprocess.run(command(*arguments), input=said, capture_output=True, timeout=timeout)


def terminal(*arguments: str, **options) -> Terminal:
    # Nobody answers where the cursor is.
    env = {"PROMPT_TOOLKIT_NO_CPR": "1"}
    return Terminal(command(*arguments), env=env, **options)


def say(screen: Terminal, text: str) -> int:
    """Type a message; returns the place from which on its answer comes."""
    start = len(screen.text)
    screen.type(text + ENTER)
    return start


def wait_for_answer(screen: Terminal, text: str, start: int) -> None:
    """Until the answer is complete: the next prompt is there."""
    screen.wait_for(rf"{text}[\s\S]*>>>", 120, start=start)


def asked(api: FakeApi, number: int = -1) -> list[str]:
    return [message["content"] for message in api.bodies[number]["messages"]]


@pytest.mark.parametrize(
    ("arguments", "said", "question"),
    [
        (["Say", "hi."], None, "Say hi."),
        ([], b"Say hi.\n", "Say hi."),
        (["Sum up:"], b"one\n\ntwo\n", "Sum up:\n\none\n\ntwo"),
    ],
)
def test_run_answers_once_without_control_characters(api, home, arguments, said, question):
    api.script = says("# Hé\n\n", "\x1b[2J\x9bdone")
    found = run("run", "fake", *arguments, "--url", api.url, said=said or b"")
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.decode() == "# Hé\n\n[2Jdone\n"
    assert asked(api) == [question]


def test_run_prints_one_document(api, home):
    options = ["--system", "S", "--set", "top_k=3", "--json"]
    found = run("run", "fake", "hi", "--url", api.url, *options, said=b"")
    document = json.loads(found.stdout)
    assert document["content"] == "Hello there." and document["finish_reason"] == "stop"
    assert document["usage"]["completion_tokens"] == 2
    assert asked(api) == ["S", "hi"] and api.bodies[0]["top_k"] == 3


@pytest.mark.parametrize(
    ("arguments", "said", "code", "text"),
    [
        (["run", "fake"], b"", 2, "standard input is empty, and there is no PROMPT"),
        (["run", "fake"], b"\xff", 2, "standard input is not UTF-8 text"),
        (["run", "fake", "x", "--set", "heat=1"], b"", 2, "there is no parameter heat"),
        (["run", "other", "x"], b"", 1, "the node has no model other; it has fake"),
        (["run", "fake", "x", "--address", "127.0.0.1:1"], b"", 2, "give one of them"),
        (["chat", "fake", "--json"], b"", 2, "standard input is empty"),
    ],
)
def test_run_says_what_is_wrong(api, home, arguments, said, code, text):
    found = run(*arguments, "--url", api.url, said=said)
    assert found.returncode == code and text in found.stderr.decode()


def test_run_keeps_what_came_before_the_node_went(api, home):
    api.script = lambda _: iter([chunk("half an "), chunk("answer")])
    found = run("run", "fake", "x", "--url", api.url, said=b"")
    assert (found.returncode, found.stdout) == (1, b"half an answer\n")
    assert found.stderr == b"mlxnode: the connection ended before the answer did\n"


def test_run_ends_quietly_when_nobody_reads(api, home):
    def endless(_):
        while not api.left.is_set():
            yield chunk("x" * 1000)

    api.script = endless
    with subprocess.Popen(
        command("run", "fake", "x", "--url", api.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(10) == b"x" * 10
        process.stdout.close()
        assert process.wait(30) == 141 and process.stderr.read() == b""
    assert api.left.wait(20)


@pytest.mark.long
def test_chat_in_a_terminal_has_several_lines_pastes_and_history(api, home):
    with terminal("chat", "--url", api.url) as screen:
        screen.wait_for(">>>")
        start = say(screen, '"""one')
        screen.wait_for(r"\.\.\.", start=start)
        screen.type('two"""' + ENTER)
        wait_for_answer(screen, r"Hello there\.", start)
        start = say(screen, "three\\")
        screen.wait_for(r"\.\.\.", start=start)
        screen.type("four" + ENTER)
        wait_for_answer(screen, r"Hello there\.", start)
        start = say(screen, PASTE.format("five \\\n\n/six"))
        wait_for_answer(screen, r"Hello there\.", start)
        screen.type(CTRL_D)
        assert screen.wait_end() == 0
    questions = asked(api)[::2]
    assert questions == ["one\ntwo", "three\nfour", "five \\\n\n/six"]
    history = home / "state" / "chat_history"
    assert history.stat().st_mode & 0o777 == 0o600 and "+four" in history.read_text()


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(api, home):
    paused = threading.Event()

    def endless(_):
        yield chunk("Begin ")
        while not api.left.is_set():
            yield chunk("more ")
            paused.wait(0.01)

    api.script = endless
    with terminal("chat", "--url", api.url, "--no-history") as screen:
        screen.wait_for(">>>")
        start = say(screen, "go")
        screen.wait_for("Begin more", start=start)
        screen.type(CTRL_C)
        wait_for_answer(screen, "stopped", start)
        assert api.left.wait(20), "the server did not see the client leave"
        api.script = says("fine")
        start = say(screen, "next")
        wait_for_answer(screen, "fine", start)
        screen.type(CTRL_C)
        wait_for_answer(screen, "ctrl-C once more", start)
        screen.type(CTRL_C)
        assert screen.wait_end() == 0
        assert screen.settings_now() == screen.settings
    texts = asked(api)
    assert texts[0] == "go" and texts[1].startswith("Begin more") and texts[2] == "next"
    assert not (home / "state" / "chat_history").exists()


def test_chat_draws_markdown_and_no_sequences_of_the_model(api, home):
    api.script = says("- *one*\n", "- two\x1b]0;owned\x07\n\n", "end", "\x9b2J")
    with terminal("run", "fake", "x", "--url", api.url) as screen:
        assert screen.wait_end() == 0
    assert "• one" in screen.text and "*one*" not in screen.text
    assert "\x1b]" not in screen.raw and "\x07" not in screen.raw and "\x9b" not in screen.raw


def test_chat_that_is_hung_up_ends_and_leaves_the_terminal_as_it_was(api, home):
    with terminal("chat", "--url", api.url) as screen:
        screen.wait_for(">>>")
        screen.process.send_signal(signal.SIGTERM)
        assert screen.wait_end() == 128 + signal.SIGTERM
        assert screen.settings_now() == screen.settings


@pytest.fixture
def model(home) -> Path:
    folder = home / "tiny"
    folder.mkdir()
    return tiny.make_chat_model(folder)


def children_of(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    own = [child for child, parent in pairs if parent == pid]
    return own + [below for child in own for below in children_of(child)]


def are_gone(pids: list[int]) -> bool:
    paused = threading.Event()
    return any(not any(map(is_running, pids)) or paused.wait(0.1) for _ in range(600))


@pytest.fixture
def unused_address(home) -> None:
    """The configuration's address is one where no node listens."""
    (home / "config.toml").write_text('[api]\naddress = "127.0.0.1:9"\nrequire_auth = false\n')


def test_run_starts_a_node_of_its_own_for_a_folder(model, unused_address, home):
    options = ["--set", "max_tokens=5", "--set", "temperature=0", "--json"]
    found = run("run", str(model), "hi", *options, said=b"", timeout=120)
    document = json.loads(found.stdout)
    assert found.returncode == 0 and 1 <= document["usage"]["completion_tokens"] <= 5
    assert not (home / "state" / "usage.sqlite").exists()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_own_node_ends_with_the_chat_however_it_ends(model, unused_address, number):
    with terminal("chat", str(model)) as screen:
        screen.wait_for(">>>", 120)
        node = children_of(screen.process.pid)
        assert len(node) >= 3
        os.kill(screen.process.pid, number)
        screen.process.wait(60)
        assert are_gone(node)


@pytest.mark.long
def test_chat_survives_the_death_of_its_node(model, unused_address):
    with terminal("chat", str(model), "--set", "max_tokens=5", "--verbose") as screen:
        screen.wait_for(">>>", 120)
        guard, *node = children_of(screen.process.pid)
        os.kill(node[0], signal.SIGKILL)  # the supervisor
        assert are_gone([guard, *node])
        start = say(screen, "still there?")
        screen.wait_for("starting another one", start=start)
        wait_for_answer(screen, "tokens/s", start)
        start = say(screen, "/bye")
        assert screen.wait_end(60) == 0


def test_run_of_a_model_that_does_not_exist_says_why(unused_address):
    found = run("run", "no/such/folder", "hi", said=b"", timeout=120)
    assert found.returncode == 1 and found.stderr.count(b"mlxnode: ") == 1
    assert b"no/such/folder" in found.stderr


def test_run_fetches_a_repository_that_is_not_here(unused_address, home, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = run("run", "org/name", "hi", said=b"", timeout=120)
    assert (found.returncode, found.stdout) == (1, b"")
    asked, why = found.stderr.decode().splitlines()
    assert asked == "org/name is not on this machine: fetching it"
    assert why.startswith("mlxnode: ") and "org/name" in why
