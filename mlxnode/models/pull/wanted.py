"""What a user wants of the hub: a repository, a revision, and some of its files."""

import re
from dataclasses import dataclass

from mlxnode.errors import ModelError
from mlxnode.models.hub import is_repository_id

_HOSTS = re.compile(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", re.ASCII)
_FORMS = 'expected "org/name", "org/name:Q4_K_M", "org/name/file.gguf" or a demo model'


@dataclass(frozen=True)
class Wanted:
    """A repository, its revision (None: the main branch), and patterns of its files.

    Without ``include``, the files are those of one model. ``tag`` is a part of the name of a
    GGUF file.
    """

    repository: str
    revision: str | None = None
    include: tuple[str, ...] = ()
    tag: str = ""


def parse_wanted(
    text: str, revision: str | None = None, include: tuple[str, ...] = ()
) -> Wanted:
    """What ``text`` of the command line names; addresses of the hub's pages are understood.

    Raises:
        ModelError: it names no repository, or names files twice.
    """
    name = _HOSTS.sub("", text).rstrip("/")
    name, _, rest = name.partition("/tree/") if "/tree/" in name else name.partition("/blob/")
    if rest:
        page_revision, _, file = rest.partition("/")
        revision = revision or page_revision
        include = include or ((file,) if file else ())
    name, colon, tag = name.partition(":")
    if name.count("/") > 1 and name.endswith(".gguf"):
        organisation, repository, file = name.split("/", 2)
        name, include = f"{organisation}/{repository}", include or (file,)
    if not is_repository_id(name) or (colon and not tag):
        raise ModelError(f"{text}: no repository of the hub; {_FORMS}")
    if tag and include:
        raise ModelError(f"{text}: name files by :{tag} or by --include, not by both")
    return Wanted(name, revision, include, tag)
