"""The command, as a process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny

from mlxnode import __version__

pytestmark = pytest.mark.slow


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mlxnode", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tiny"))


def write(folder: Path, model: Path, api: str = "", extra: str = "") -> str:
    file = folder / "config.toml"
    file.write_text(
        f"[api]\nrequire_auth = false\n{api}\n"
        f'[api.models.mine]\npath = "{model}"\ntype = "chat"\n{extra}'
    )
    return str(file)


def test_cli_version_and_help():
    assert run("--version").stdout.strip() == f"mlxnode {__version__}"
    text = run("--help").stdout
    assert all(word in text for word in ("serve", "models", "check", "MLXNODE_API_KEY"))
    text = run("serve", "--help").stdout
    assert all(word in text for word in ("--config", "--address", "--workers", "--log-level"))


def test_cli_ends_quietly_when_nobody_reads_its_output(tmp_path, model):
    command = [sys.executable, "-m", "mlxnode", "models", "--config", write(tmp_path, model)]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=60)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_cli_wrong_command_line_exits_with_2():
    assert run("sing").returncode == 2
    assert run("serve", "--log-level", "loud").returncode == 2


def test_cli_wrong_configuration_exits_with_2_and_one_line(tmp_path, model):
    file = write(tmp_path, model, extra="contxt_length = 5")
    for command in ("serve", "models", "check"):
        result = run(command, "--config", file)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr == (
            f"mlxnode: {file}: api.models.mine.contxt_length: unknown key; "
            "did you mean context_length?\n"
        )


def test_cli_model_that_is_missing_exits_with_1_and_one_line(tmp_path):
    result = run(
        "serve", "--config", write(tmp_path, Path("/no/model"), 'address="127.0.0.1:0"')
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert 'config.toml: api.models.mine (path = "/no/model")' in result.stderr


def test_cli_configuration_without_a_model_exits_with_2(tmp_path):
    file = tmp_path / "config.toml"
    api = '[api]\nrequire_auth = false\naddress = "127.0.0.1:0"\n'
    file.write_text(f"{api}[server.discovery]\nenabled = false\n")
    result = run("serve", "--config", str(file))
    assert result.returncode == 2
    assert result.stderr.startswith(f"mlxnode: {file}: api.models: no model is configured")


def test_cli_address_in_use_exits_with_1_before_anything_starts(tmp_path, model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = write(tmp_path, model, f'address = "127.0.0.1:{port}"')
        result = run("serve", "--config", file)
    assert result.returncode == 1
    assert result.stderr == (
        f"mlxnode: cannot listen on 127.0.0.1:{port}: "
        f"127.0.0.1:{port} is in use by another program\n"
    )


def test_cli_disabled_api_says_so_and_exits_with_0(tmp_path, model):
    result = run("serve", "--config", write(tmp_path, model, "enabled = false"))
    assert result.returncode == 0
    assert "enabled = false" in result.stderr


def test_cli_models_lists_what_is_registered(tmp_path, model):
    extra = '[api.models.other]\npath = "demo/all-minilm-l6-v2"\ntype = "embedding"\n'
    extra += '[api.models.gone]\npath = "/no/model"\ntype = "chat"\n'
    result = run("models", "--config", write(tmp_path, model, extra=extra))
    header, mine, other, gone = result.stdout.splitlines()
    assert header.split() == ["ID", "TYPE", "SIZE", "CONTEXT", "ON", "DISK", "FIT", "PATH"]
    assert mine.split()[:2] == ["mine", "chat"]
    assert "512" in mine
    assert "yes" in mine
    assert other.startswith("other")
    assert " no " in gone
    assert result.returncode == 0


def test_cli_check_validates_without_serving(tmp_path, model):
    result = run("check", "--config", write(tmp_path, model))
    assert result.returncode == 0
    assert "mine: chat, llama, 512 tokens" in result.stdout
    assert "  fits: 32 rows of 512 tokens need" in result.stdout
    assert "  reasoning: none" in result.stdout
    assert "  tool calls: in plain words (the template does not write the" in result.stdout
    too_long = write(tmp_path, model, extra="context_length = 4096")
    result = run("check", "--config", too_long)
    assert result.returncode == 2
    assert "context_length = 4096: the model has 512" in result.stderr


@pytest.mark.long
def test_cli_check_fails_for_a_model_that_would_not_be_served(tmp_path, model):
    extra = '[api.models.gone]\npath = "/no/model"\ntype = "chat"\n'
    result = run("check", "--config", write(tmp_path, model, extra=extra))
    assert result.returncode == 1
    assert "mine: chat" in result.stdout
    assert 'api.models.gone (path = "/no/model")' in result.stderr
    tight = "context_length = 512\n[engine]\nmemory_gb = 0.0002\n"
    result = run("check", "--config", write(tmp_path, model, extra=tight))
    assert result.returncode == 1
    assert "does not fit: one request of 512 tokens needs" in result.stderr
    listed = run("models", "--config", write(tmp_path, model, extra=tight))
    assert listed.returncode == 0
    assert " no " in listed.stdout


def test_cli_serve_without_a_model_that_works_says_why_of_each(tmp_path, model):
    extra = '[api.models.gone]\npath = "/no/model"\ntype = "chat"\n'
    extra += "[server]\nrequire_all_models = true\n"
    file = write(tmp_path, model, 'address = "127.0.0.1:0"', extra)
    result = run("serve", "--config", file)
    assert result.returncode == 1
    assert "api.models.gone" in result.stderr and "ready at" not in result.stderr


def test_cli_relative_paths_are_relative_to_the_file(tmp_path, model):
    file = write(tmp_path, Path(model.name))
    (tmp_path / model.name).symlink_to(model)
    assert run("check", "--config", file, folder=Path("/")).returncode == 0


def test_cli_import_is_light():
    # Every spawned child imports it again.
    code = (
        "import sys, mlxnode.cli; "
        "print(sorted({'mlx', 'sanic', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
