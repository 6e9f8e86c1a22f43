"""Runs code blocks as a reader does: in a home folder, beside the node of the examples."""

import contextlib
import doctest
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from documents.markdown import Snippet
from documents.node import Examples

TIMEOUT = 60  # seconds, of one block
CONFIGURED = ("MLXNODE_CONFIG", "MLXNODE_API_KEY")
READY = " is ready at "
# As a reader's shell, but the first command that fails ends the block.
SHELL = ("bash", "-eu", "-o", "pipefail")
_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_block(
    snippet: Snippet,
    examples: Examples,
    home: Path,
    interpreter: Sequence[str | Path],
    *,
    is_configured: bool = True,
) -> str:
    """What ``snippet`` prints. Its processes end with it.

    ``is_configured``: the user's configuration and key are those of the examples.

    Raises:
        AssertionError: it fails, or does not end in time.
    """
    text = examples.substituted(snippet.text)
    variables = {} if is_configured else dict.fromkeys(CONFIGURED)
    process = _start(snippet, text, examples, home, interpreter, **variables)
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"{snippet.name} does not end:\n{output}") from None
    finally:
        _end(process)
    assert process.returncode == 0, f"{snippet.name} failed:\n{output}"
    return output


def serve_block(snippet: Snippet, examples: Examples, home: Path) -> str:
    """What ``snippet`` prints until it is ready; it then ends by an interrupt, with code 0."""
    free = examples.config.with_name("config.toml")  # whose port is a free one
    text = snippet.text.replace("127.0.0.1:8080", "127.0.0.1:0")
    process = _start(snippet, text, examples, home, SHELL, MLXNODE_CONFIG=str(free))
    watchdog = threading.Timer(2 * TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        lines: list[str] = []
        for line in process.stdout or ():
            lines.append(line)
            if READY in line:
                os.killpg(process.pid, signal.SIGINT)  # as ctrl-C at a terminal
        code = process.wait()
    finally:
        watchdog.cancel()
        _end(process)
    output = "".join(lines)
    assert READY in output and code == 0, f"{snippet.name} failed ({code}):\n{output}"
    return output


def matches(output: str, expected: str) -> bool:
    """True if ``output`` is as documented; ``...`` there is anything."""
    return doctest.OutputChecker().check_output(expected, output, _OPTIONS)


def _start(
    snippet: Snippet,
    text: str,
    examples: Examples,
    home: Path,
    interpreter: Sequence[str | Path],
    **variables: str | None,
) -> subprocess.Popen[str]:
    (home / ".curlrc").write_text("fail-with-body\n")  # else an error of the node is no failure
    file = home / ("snippet" + {"sh": ".sh", "python": ".py"}.get(snippet.language, ".mjs"))
    file.write_text(text)
    wanted = examples.environment(home) | variables
    environment = {name: value for name, value in wanted.items() if value is not None}
    folder = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([folder, environment["PATH"]])
    return subprocess.Popen(
        [*interpreter, file],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End what is left of the session that ``process`` leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
