"""The documents are one site: links lead somewhere, every page is reached, commands exist."""

import re
from pathlib import Path

import pytest
from documents import cli
from documents.markdown import DOCUMENTS, ROOT, all_snippets, anchors, inline_code, links

CONTENTS = ROOT / "docs" / "README.md"
MAKE = re.compile(r"(?:^|\s)make (?:PYTHON=\S+ )?([a-z][a-z-]*)")
COMMAND = re.compile(r"(?:^|\s|/)mlxnode ([a-z]+)\b")


def local_links(document: Path) -> list[tuple[Path, str]]:
    """The file and the anchor of each link within the repository."""
    found = []
    for link in links(document):
        if "://" not in link and not link.startswith("mailto:"):
            name, _, anchor = link.partition("#")
            found.append(((document.parent / name).resolve() if name else document, anchor))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_to_files_and_headings(document):
    wrong = [
        f"{file.name}#{anchor}"
        for file, anchor in local_links(document)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert not wrong


def test_each_page_is_reached_from_the_table_of_contents():
    reached = {CONTENTS}
    todo = [CONTENTS]
    while todo:
        for file, _ in local_links(todo.pop()):
            if file in DOCUMENTS and file not in reached:
                reached.add(file)
                todo.append(file)
    assert {file for file in DOCUMENTS if file.parent != ROOT} <= reached
    direct = {file for file, _ in local_links(CONTENTS)}
    assert {file for file in DOCUMENTS if file.parent == ROOT / "docs"} <= direct | {CONTENTS}


def texts() -> list[tuple[str, str]]:
    """All code of the documents: blocks of the shell, and what stands between backticks."""
    blocks = [(one.name, one.text) for one in all_snippets() if one.language == "sh"]
    return blocks + [(file.name, code) for file in DOCUMENTS for code in inline_code(file)]


def test_make_targets_exist():
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for name, text in texts():
        if text.startswith("make ") or "\n" in text:
            assert set(MAKE.findall(re.sub(r"#.*", "", text))) <= targets, name


def test_commands_and_their_options_exist():
    """What the documents call is in the help of the command; texts name parts of calls."""
    called: dict[str, set[str]] = {}
    for _, text in texts():
        plain = re.sub(r"#.*|\$\(.*?\)", "", text).replace("\\\n", "")
        for line in plain.splitlines():
            for found in COMMAND.finditer(line):
                before = line[: found.start()].split()
                if not before or before[-1] in {"&&", "nohup", "|"} or "=" in before[-1]:
                    rest = line[found.end() :].partition("&&")[0].partition("|")[0]
                    options = called.setdefault(found[1], set())
                    options |= set(re.findall(r"(?<=\s)--[a-z-]+", rest))
    assert {"serve", "status", "check"} <= called.keys()
    known: dict[str, set[str]] = {}
    for name, context in cli.commands():  # those of a group count for the group
        own = {option for param in context.command.params for option in param.opts}
        known[name.split()[1]] = known.get(name.split()[1], {"--help"}) | own
    for command, options in called.items():
        assert command in known, f"there is no mlxnode {command}"
        assert options <= known[command], f"mlxnode {command}: {options - known[command]}"
