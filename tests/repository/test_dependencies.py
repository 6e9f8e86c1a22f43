"""pyproject.toml declares what the code imports, in the right group, and nothing else."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Modules that belong to another distribution than the one of their name.
DISTRIBUTIONS = {
    "markdown_it": "markdown-it-py",
    "pydantic_core": "pydantic",  # pydantic pins one version of it
    "sanic_routing": "sanic",  # the router behind sanic's public attributes
    "yaml": "pyyaml",
}
# A module that several distributions share: what each one brings.
SHARED = {
    "opentelemetry": {
        "opentelemetry.sdk": "opentelemetry-sdk",
        "opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry.proto": "opentelemetry-proto",
        "opentelemetry": "opentelemetry-api",
    }
}

# Declared, but not imported, and why.
NOT_IMPORTED = {
    "pytest-asyncio": "a plugin: pytest loads it",
    "pytest-timeout": "a plugin: pytest loads it",
    "pytest-xdist": "a plugin: `make test` runs two tests at a time",
    "setuptools": "test_packages.py builds a wheel in another process",
    "ruff": "a command: make lint",
    "basedpyright": "a command: make lint",
}

# Scripts that another environment runs; they make fixtures, measure another server, or are
# clients of the node.
OTHER_ENVIRONMENTS = {
    "benchmarks/embedding_peer.py",
    "tests/fixtures/embeddings/make_fixtures.py",
    "tests/fixtures/gguf/make_tokens.py",
    "tests/fixtures/rerankers/make_fixtures.py",
    *(
        file.relative_to(ROOT).as_posix()
        for file in ROOT.glob("tests/clients/scripts/*_loop.py")
    ),
}


def declared() -> dict[str, set[str]]:
    """The names of the distributions by group; the group of the package is ``runtime``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"runtime": project["dependencies"], **project["optional-dependencies"]}
    return {
        group: {normalize(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines}
        for group, lines in groups.items()
    }


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def modules_of(source: str) -> Iterator[str]:
    """The top-level modules that ``source`` imports, inside functions as well.

    Of a module that distributions share, the names of the distributions.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (top_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield top_of(node.module)


def top_of(module: str) -> str:
    top = module.split(".")[0]
    owners = SHARED.get(top, {})
    return next((owners[name] for name in owners if f"{module}.".startswith(f"{name}.")), top)


def imported(*folders: str) -> dict[str, set[str]]:
    """The distributions that the files of ``folders`` import, with those files."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if name.startswith("mlxnode/kernels/") or name in OTHER_ENVIRONMENTS:
                continue
            for module in set(modules_of(file.read_text())):
                if module not in sys.stdlib_module_names and not is_own(module):
                    distribution = normalize(DISTRIBUTIONS.get(module, module))
                    found.setdefault(distribution, set()).add(name)
    return found


def is_own(module: str) -> bool:
    """True for the package, and for the modules that tests and benchmarks find by file name."""
    return any(
        (ROOT / folder / module).is_dir() or (ROOT / folder / f"{module}.py").is_file()
        for folder in (".", "benchmarks", "tests")
    )


def undeclared(found: dict[str, set[str]], groups: Iterable[set[str]]) -> dict[str, set[str]]:
    return {name: files for name, files in found.items() if name not in set().union(*groups)}


def test_dependencies_of_the_package_are_declared():
    drawing = {"mlxnode/bench/report.py"}  # which says so where matplotlib is missing
    sending = {"mlxnode/server/tracing/export.py"}  # only for [server] tracing, as is checked
    missing = undeclared(imported("mlxnode", "kernels"), [declared()["runtime"]])
    sharing = {"mlxnode/process/redis_buckets.py"}  # only for shared limits, as is checked
    expected = dict.fromkeys(declared()["bench"], drawing)
    expected |= dict.fromkeys(declared()["tracing"], sending)
    assert missing == expected | dict.fromkeys(declared()["redis"], sharing)


def test_dependencies_of_the_tests_are_declared():
    groups = declared()
    missing = undeclared(
        imported("tests"), [groups[name] for name in ("runtime", "dev", "redis")]
    )
    assert missing.keys() == groups["fuzz"] | groups["browser"]
    for name in groups["fuzz"]:
        assert missing[name] == {"tests/fuzz/guided.py"}  # which `make fuzz` runs
    for name in groups["browser"]:  # which `make test-clients` has
        assert all(file.startswith("tests/clients/browser/") for file in missing[name])


def test_dependencies_of_the_benchmarks_are_declared():
    assert not undeclared(imported("benchmarks"), declared().values())


def test_dependencies_are_used_where_they_are_declared():
    groups = declared()
    optional = groups["bench"] | groups["tracing"] | groups["redis"]
    assert groups["runtime"] | optional == set(imported("mlxnode", "kernels"))
    assert groups["dev"] - set(imported("tests", "benchmarks")) == set(NOT_IMPORTED)
    assert groups["bench"] <= set(imported("benchmarks"))


def test_dependencies_are_declared_once():
    names = [name for group in declared().values() for name in group]
    assert len(names) == len(set(names))


def test_dependencies_of_other_environments_are_those_files():
    for name in OTHER_ENVIRONMENTS:
        assert (ROOT / name).is_file()
