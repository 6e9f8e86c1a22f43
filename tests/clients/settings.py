"""The settings of a client, as its page in docs/clients has them."""

import re
import shlex

from clients.loop import KEY
from documents.markdown import snippet_of


def settings(page: str, language: str, url: str, model: str) -> str:
    """The only block of ``language`` in ``docs/clients/<page>.md``, for this node and model."""
    text = snippet_of(f"docs/clients/{page}.md", language)
    for documented, here in (
        ("http://127.0.0.1:8080", url),
        ("sk-your-secret-key", KEY),
        ("my-chat-model", model),
    ):
        assert documented in text or documented.startswith("sk-"), f"{page}: {documented}"
        text = text.replace(documented, here)
    return text


def command(page: str, url: str, model: str) -> list[str]:
    """The arguments of the command of the page, without its name."""
    text = settings(page, "sh", url, model).replace("\\\n", "")
    return shlex.split(text)[1:]


def variables(page: str, url: str, model: str) -> dict[str, str]:
    """The variables that the page exports."""
    return dict(re.findall(r"(?m)^export (\w+)=(\S+)$", settings(page, "sh", url, model)))
