"""Every code block of the documents is executed, or checked as ``documents.rules`` says."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import tomli
import yaml
from documents import cli, node
from documents.execute import SHELL, matches, run_block, serve_block
from documents.markdown import DOCUMENTS, ROOT, Snippet, all_snippets, markers, snippets
from documents.rules import REASONS, how, kind_of, problems
from support.tools import require_program

from mlxnode.config.file import load_config
from mlxnode.config.tables import NodeConfig
from mlxnode.models.resolve import resolve_each

ALL = all_snippets()
CLIENTS = ROOT / "build" / "clients"
PROXIES = {
    "nginx": lambda file: ["nginx", "-t", "-p", file.parent, "-c", file],
    "caddyfile": lambda file: ["caddy", "validate", "--adapter", "caddyfile", "--config", file],
}


def of_kind(*kinds: str, language: str = "") -> pytest.MarkDecorator:
    """A test for each code block of these kinds, and of ``language`` if it is given."""
    chosen = [
        snippet
        for snippet in ALL
        if kind_of(snippet) in kinds and language in ("", snippet.language)
    ]
    assert chosen, f"no document has a block of the kinds {kinds}"
    return pytest.mark.parametrize("snippet", chosen, ids=[one.name for one in chosen])


def output_of(snippet: Snippet) -> str | None:
    """What the documents say that ``snippet`` prints; None if they do not say."""
    following = snippets(snippet.document)
    at = following.index(snippet) + 1
    if at < len(following) and kind_of(following[at]) == "output":
        return following[at].text
    return None


def assert_output(snippet: Snippet, output: str) -> None:
    expected = output_of(snippet)
    assert expected is None or matches(output, expected), output


def test_each_block_says_how_it_is_checked():
    found = {snippet.name: list(problems(snippet)) for snippet in ALL}
    assert not {name: texts for name, texts in found.items() if texts}


def test_no_marker_is_lost():
    """A marker is followed by its block at once."""
    for document in DOCUMENTS:
        used = [snippet.marker for snippet in snippets(document) if snippet.marker]
        assert markers(document) == used, document.name


def test_each_reason_is_one_of_some_block():
    used = {how(snippet).partition("because: ")[2] for snippet in ALL}
    assert set(REASONS) <= used


def test_each_output_follows_what_prints_it():
    for document in DOCUMENTS:
        found = snippets(document)
        for before, after in zip([None, *found], found, strict=False):
            if kind_of(after) == "output":
                assert before and kind_of(before) in ("node", "home", "serves"), after.name


@pytest.mark.parametrize("language", ["sh", "python", "javascript"])
@pytest.mark.parametrize("text", ["a block that fails", ""])
def test_a_block_that_fails_is_told(tmp_path, language, text):
    """The tests below can fail: a wrong command does."""
    code = {"sh": "false\ntrue\n", "python": "x = 1 / 0\n", "javascript": "throw 1\n"}
    interpreter = {"sh": SHELL, "python": (sys.executable,), "javascript": ("node",)}[language]
    if language == "javascript":
        require_program("node")
    snippet = Snippet(ROOT / "README.md", 1, language, text and code[language], "")
    nobody = node.Examples("http://127.0.0.1:9", tmp_path / "config.toml", tmp_path)
    if text:
        with pytest.raises(AssertionError, match="failed"):
            run_block(snippet, nobody, tmp_path, interpreter)
    else:
        assert run_block(snippet, nobody, tmp_path, interpreter) == ""


def test_a_request_that_the_node_refuses_fails_its_block(examples, tmp_path):
    text = "curl http://127.0.0.1:8080/v1/models -H 'Authorization: Bearer sk-wrong'\n"
    snippet = Snippet(ROOT / "README.md", 1, "sh", text, "")
    with pytest.raises(AssertionError, match="invalid_api_key"):
        run_block(snippet, examples, tmp_path, SHELL)


def test_an_output_that_differs_is_seen():
    assert matches("x-mlxnode-ignored: a, b\r\n", "x-mlxnode-ignored: ...")
    assert not matches("x-mlxnode-ignored: a\r\n", "x-mlxnode-ignored: b")


@of_kind("node", language="sh")
def test_shell_block_runs(snippet, examples, tmp_path):
    assert_output(snippet, run_block(snippet, examples, tmp_path, SHELL))


@of_kind("home")
def test_shell_block_runs_in_a_new_home(snippet, examples, tmp_path):
    assert_output(snippet, run_block(snippet, examples, tmp_path, SHELL, is_configured=False))


@of_kind("serves")
def test_serving_block_becomes_ready_and_ends(snippet, examples, tmp_path):
    assert_output(snippet, serve_block(snippet, examples, tmp_path))


@of_kind("node", language="python")
def test_python_block_runs(snippet, examples, tmp_path):
    assert_output(snippet, run_block(snippet, examples, tmp_path, (sys.executable,)))


@of_kind("node", language="javascript")
def test_javascript_block_runs(snippet, examples, tmp_path, node_modules):
    (tmp_path / "node_modules").symlink_to(node_modules)
    assert_output(snippet, run_block(snippet, examples, tmp_path, ("node",)))


@pytest.mark.clients
@of_kind("clients")
def test_block_of_another_project_runs(snippet, examples, tmp_path):
    environment = how(snippet).partition(" ")[2]
    if snippet.language == "javascript":
        (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
        run_block(snippet, examples, tmp_path, ("node",))
    else:
        run_block(snippet, examples, tmp_path, (CLIENTS / environment / "bin" / "python",))


@of_kind("node", "home", "serves", "parsed", "none", language="sh")
def test_shell_block_has_valid_syntax(snippet):
    done = subprocess.run([*SHELL, "-n"], input=snippet.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@of_kind("parsed", "none", language="sh")
def test_shell_block_has_calls_that_the_command_line_takes(snippet):
    for words in calls(snippet.text):
        cli.check_call(words)


def test_each_example_of_a_command_calls_it():
    for name, context in cli.commands():
        for line in getattr(context.command, "examples", "").splitlines():
            found = [" ".join(["mlxnode", *words]) for words in cli.words_of(line)]
            assert found or "$(mlxnode " in line, line
            assert all(re.match(r"mlxnode \w+", call) for call in found), name


@pytest.mark.parametrize("line", ["mlxnode serv", "mlxnode status --al", "mlxnode reload now"])
def test_a_call_that_the_command_line_refuses_is_seen(line):
    with pytest.raises(click.UsageError):
        for words in calls(f"mlxnode models\nA=1 {line} | cat > file\n"):
            cli.check_call(words)


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of mlxnode in a block of the shell."""
    for line in text.replace("\\\n", " ").splitlines():
        if "mlxnode" in line:
            yield from cli.words_of(line)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    return node.make_models(tmp_path_factory.mktemp("models"), context=32_768)


@of_kind("config")
def test_configuration_block_loads_and_its_models_are_served(snippet, tmp_path, models):
    file = tmp_path / "config.toml"
    file.write_text(snippet.text)
    node.make_secrets(tmp_path)
    loaded = load_config(file, environ={"MLXNODE_API_KEY": "sk-of-a-reader-0123456789"})
    config = with_models(loaded.config, models)
    if config.api.models:
        resolved = resolve_each(config, lambda text: None, folder=tmp_path)
        assert not resolved.failed


def with_models(config: NodeConfig, models: dict[str, Path]) -> NodeConfig:
    """``config`` with a tiny model of its type in the place of each model."""
    tables = {
        id: table.model_copy(update={"path": str(models[table.type]), "adapter": None})
        for id, table in config.api.models.items()
    }
    return config.model_copy(update={"api": config.api.model_copy(update={"models": tables})})


READERS: dict[str, Callable[[str], object]] = {
    "toml": tomli.loads,
    "json": json.loads,
    "yaml": yaml.safe_load,
}


@pytest.mark.parametrize(
    "snippet",
    [one for one in ALL if kind_of(one) == "parsed" and one.language in READERS],
    ids=lambda snippet: snippet.name,
)
def test_file_of_another_program_can_be_read(snippet):
    assert READERS[snippet.language](snippet.text)


@of_kind("proxy")
def test_proxy_takes_its_configuration(snippet, tmp_path):
    command = PROXIES[snippet.language]
    program = str(command(tmp_path)[0])
    if sys.platform != "linux" and shutil.which(program) is None:
        pytest.skip(f"{program} is not on PATH")  # CI installs it on Linux alone
    require_program(program)
    pair = node.certificates.make_pair(tmp_path)
    text = re.sub(r"/\S*/fullchain\.pem", str(pair.certificate), snippet.text)
    text = re.sub(r"/\S*/privkey\.pem", str(pair.key), text)
    file = tmp_path / "proxy.conf"
    if snippet.language == "nginx":  # a part of the http block, without root's files
        (tmp_path / "logs").mkdir()
        text = f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{text}\n}}\n"
    file.write_text(text)
    done = subprocess.run(
        [*map(str, command(file))],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr


def test_the_marker_of_a_block_is_found(tmp_path):
    text = "a\n\n<!-- run: none because: x -->\n```sh\nb\n```\n\n```sh\nc\n```\n"
    file = tmp_path / "a.md"
    file.write_text(text)
    first, second = snippets(file)
    assert (first.marker, first.text, first.line) == ("none because: x", "b\n", 4)
    assert (second.marker, kind_of(second)) == ("", "node")


@pytest.mark.parametrize(
    ("language", "marker", "text", "problem"),
    [
        ("", "", "x", "no rule for the language"),
        ("text", "", "$ mlxnode serve", "no marker is not allowed"),
        ("sh", "output", "x", "output is not allowed for sh"),
        ("sh", "none", "x", "the reason is none of"),
        ("sh", "none because: nobody likes it", "x", "the reason is none of"),
        ("sh", "none because: needs Homebrew", "mlxnode serve", "has nothing that"),
    ],
)
def test_a_block_that_cannot_be_checked_is_a_problem(language, marker, text, problem):
    snippet = Snippet(ROOT / "README.md", 1, language, text, marker)
    assert [found for found in problems(snippet) if problem in found]
    fine = dataclasses.replace(
        snippet, language="sh", marker="none because: needs Homebrew", text="brew update"
    )
    assert not list(problems(fine))
