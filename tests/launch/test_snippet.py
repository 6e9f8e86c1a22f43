"""What each agent is told, as a script."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlxnode.launch.agents import AGENTS, Target
from mlxnode.launch.snippet import snippet

KEY = 'sk-launch\'s "key"'
TARGET = Target("http://127.0.0.1:8080", KEY, "org/my model's", "small", 32_768)
# An agent that writes what it got.
AGENT = """#!/bin/sh
env > "$OUT.env"
printf '%s\\n' "$@" > "$OUT.arguments"
for file in "$QWEN_CODE_SYSTEM_DEFAULTS_PATH" "$CLINE_PROVIDER_SETTINGS_PATH"; do
	[ -z "$file" ] || cat "$file" > "$OUT.file"
done
"""


@pytest.mark.parametrize("name", AGENTS)
def test_script_starts_the_agent_with_what_the_plan_says(name, tmp_path):
    agent = tmp_path / name
    agent.write_text(AGENT)
    agent.chmod(0o755)
    (tmp_path / "tmp").mkdir()
    surroundings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "OUT": str(tmp_path / "out"),
        "TMPDIR": str(tmp_path / "tmp"),
        "ANTHROPIC_API_KEY": "sk-of-the-user",
    }
    script = snippet(AGENTS[name], TARGET, ["it's", "$HOME"], {})
    subprocess.run(["sh", "-euc", script], env=surroundings, check=True, timeout=30)
    plan = AGENTS[name].plan(TARGET, Path("/folder"))
    lines = (tmp_path / "out.env").read_text().splitlines()
    for variable, value in plan.environment.items():
        if "/folder" not in value:
            assert f"{variable}={value}" in lines
    unset = [line for line in lines if line.startswith("ANTHROPIC_API_KEY=")]
    assert bool(unset) is (name != "claude")
    arguments = (tmp_path / "out.arguments").read_text().splitlines()
    assert arguments[-2:] == ["it's", "$HOME"] and len(arguments) == len(plan.arguments) + 2
    if name in ("qwen", "cline"):
        assert (tmp_path / "out.file").read_text() == next(iter(plan.files.values()))
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", AGENTS)
def test_agent_gets_the_address_the_key_the_model_and_the_context(name):
    plan = AGENTS[name].plan(TARGET, Path("/folder"))
    told = json.dumps([plan.arguments, plan.environment, plan.files])
    assert "http://127.0.0.1:8080" in told
    assert json.dumps("org/my model's")[1:-1] in told.replace("\\\\", "\\") or "org/my" in told
    assert any(KEY in value for value in plan.environment.values()) or "launch's" in told
    assert (name == "cline") or "32768" in told or "32_768" in told


@pytest.mark.parametrize("name", AGENTS)
def test_agent_of_a_node_without_key_and_context_is_still_told_some_key(name):
    plan = AGENTS[name].plan(replace(TARGET, key=None, context=None), Path("/folder"))
    told = json.dumps([plan.arguments, plan.environment, plan.files])
    assert "null" not in told and "None" not in told and "mlxnode" in told


def test_proxies_do_not_take_the_requests_and_the_certificate_is_trusted():
    target = replace(TARGET, certificate=Path("/node.pem"))
    environ = {"HTTPS_PROXY": "http://proxy", "no_proxy": "a.example"}
    script = snippet(AGENTS["opencode"], target, [], environ)
    assert "export NO_PROXY=a.example,127.0.0.1\n" in script
    assert "export NODE_EXTRA_CA_CERTS=/node.pem\n" in script
    assert "NO_PROXY" not in snippet(AGENTS["opencode"], target, [], {})
    assert "SSL_CERT_FILE=/node.pem" in snippet(AGENTS["codex"], target, [], {})
