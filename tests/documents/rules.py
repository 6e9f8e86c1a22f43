"""How each code block of the documents is executed or checked.

By its language, or by its marker:

- ``node``: executed in a new home folder, beside a node that serves the models of the examples
  at the address of the examples. The default of sh, python and javascript.
- ``home``: executed in a new home folder without a configuration, and without a node. sh.
- ``serves``: executed until it says that it is ready, then ended by SIGTERM. sh.
- ``clients ENVIRONMENT``: as ``node``, in an environment of `make test-clients`.
- ``config``: loaded as a configuration file, with tiny models. The default of toml.
- ``proxy``: checked by the program whose configuration it is. The default of nginx and Caddy.
- ``parsed``: read in its language, since it is the file of another program; sh: each call of
  mlxnode is one that its command line takes. The default of json and yaml.
- ``output``: what the block before prints; ``...`` stands for anything. text.
- ``none because: REASON``: not executed. Its syntax, its calls of mlxnode and its make targets
  are checked, and the REASON is one of ``REASONS``, which has to hold for its text.
"""

import re
from collections.abc import Iterator

from documents.markdown import Snippet

DEFAULTS = {
    "sh": "node",
    "python": "node",
    "javascript": "node",
    "toml": "config",
    "json": "parsed",
    "yaml": "parsed",
    "nginx": "proxy",
    "caddyfile": "proxy",
}
ALLOWED = {
    "sh": {"node", "home", "serves", "parsed", "none"},
    "python": {"node", "clients", "none"},
    "javascript": {"node", "clients", "none"},
    "toml": {"config", "parsed"},
    "json": {"parsed"},
    "yaml": {"parsed"},
    "nginx": {"proxy"},
    "caddyfile": {"proxy"},
    "text": {"output", "none"},
}
# Why a block is not executed, and what its text must have for that.
REASONS = {
    "needs Homebrew": r"\bbrew\b",
    "sets up a clone": r"\b(make [a-z-]+|git clone)\b",
    "installs packages": r"\b(pip|npm|uv|pipx) (install|tool)\b|/pip install",
    "downloads a model": r"\bmlxnode (pull|run|serve) \S*/",
    "changes a service": r"\bmlxnode service \w+",
    "changes the shell": r"\bmlxnode completion \w+",
    "starts an agent": r"\b(claude|codex|opencode|qwen|aider|cline|cn)\b",
    "measures for minutes": r"\b(mlxnode (bench|doctor)|benchmarks/|make bench)",
    "changes the system": r"\b(sudo|newsyslog|mkcert)\b",
    "is a diagram": r"[─│┌►◄]|\w:  +\w",
}
_REASON = re.compile(r"none because: (.+)")


def kind_of(snippet: Snippet) -> str:
    """The first word of the marker, or of the default."""
    return how(snippet).partition(" ")[0]


def how(snippet: Snippet) -> str:
    """The marker of ``snippet``, or the default of its language; empty: there is neither."""
    return snippet.marker or DEFAULTS.get(snippet.language, "")


def problems(snippet: Snippet) -> Iterator[str]:
    """Why nobody can say how ``snippet`` is executed or checked; none if all is well."""
    kind = kind_of(snippet)
    if snippet.language not in ALLOWED:
        yield f"no rule for the language {snippet.language!r}"
    elif kind not in ALLOWED[snippet.language]:
        yield f"{kind or 'no marker'} is not allowed for {snippet.language}"
    elif kind == "none":
        found = _REASON.fullmatch(how(snippet))
        if found is None or found[1] not in REASONS:
            yield f"the reason is none of {', '.join(REASONS)}"
        elif not re.search(REASONS[found[1]], snippet.text):
            yield f"its text has nothing that {found[1]}"
