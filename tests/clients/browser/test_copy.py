"""The code that the playground offers: each program asks exactly what the page asks."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from clients.browser.actions import chat
from clients.loop import NODE_MODULES
from playwright.sync_api import expect
from support.worker_process import KEY

from mlxnode.messages.data import Generate

pytestmark = pytest.mark.clients
NASTY = (
    """It's "quoted", `ticked` and $HOME $(id) ${x} !! %s %(a)s {b} \\n \\ \\\\ #\n"""
    "second line\ttab\n'''three''' \"\"\"three\"\"\" '\\'' @file <b> &amp;"
    " \u00fc \u4f60 \U0001f600 \u2028 \u202e EOF\n${process.env.HOME} \\u0041 \\"
)
SUFFIX = {"curl": "sh", "python": "py", "javascript": "mjs"}


def run(language: str, code: str, folder) -> str:
    file = folder / f"copied.{SUFFIX[language]}"
    file.write_text(code)
    command = {"curl": ["sh"], "python": [sys.executable], "javascript": ["node"]}[language]
    if language == "javascript":
        (folder / "node_modules").symlink_to(NODE_MODULES)
    environment = {"MLXNODE_API_KEY": KEY, "PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(
        [*command, file], cwd=folder, env=environment, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("language", SUFFIX)
def test_copied_code_asks_what_the_page_asks(visit, scripted, tmp_path, language):
    program = {"curl": "curl", "python": sys.executable, "javascript": "node"}[language]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    page = visit.page
    scripted.engine.answer = 'Read: it\'s "this".'
    page.get_by_text("System prompt, parameters, tools").click()
    page.get_by_label("System prompt").fill(NASTY)
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Seed").fill("7")
    tool = {
        "type": "function",
        "function": {
            "name": "look",
            "description": NASTY,
            "strict": None,
            "parameters": {"type": "object", "additionalProperties": False},
        },
    }
    page.get_by_label("Tools (JSON").fill(json.dumps([tool]))
    chat(visit, NASTY)
    asked = scripted.engine.next(Generate)
    page.get_by_role("button", name="Copy as code").click()
    dialog = page.get_by_role("dialog", name="Copy as code")
    dialog.get_by_label("Language").select_option(language)
    dialog.get_by_role("button", name="Copy the").click()
    expect(dialog.get_by_role("button", name="Copy the")).to_have_text("Copied")
    code = page.evaluate("navigator.clipboard.readText()")
    assert code == dialog.locator("pre code").text_content()
    assert KEY not in code and "MLXNODE_API_KEY" in code
    assert "\u202e" not in code  # what reverses a line is written as an escape
    output = run(language, code, tmp_path)
    copied = scripted.engine.next(Generate)
    assert scripted.engine.text(copied.prompt) == scripted.engine.text(asked.prompt)
    assert (copied.sampling.temperature, copied.sampling.seed) == (0.5, 7)
    assert "this" in output
