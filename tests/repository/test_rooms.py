"""The rooms of the package: what each may import, without circles, and that each says so."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREFIX = "mlxnode."
# A room is a folder or a module. Each names the rooms that it may import; what it does not
# import is not in its list. The version in mlxnode/__init__.py is open to all.
MAY_IMPORT = {
    "errors": [],
    "figures": [],
    "messages": ["config", "figures", "models"],
    "footprint": [],
    "fair_threads": [],
    "grammar": ["fair_threads"],
    "token_bytes": [],
    "tokenizing": [],
    "kernels": [],
    "config": ["errors"],
    "models": ["config", "errors", "tokenizing"],
    "process": ["config", "errors", "figures", "messages", "models"],
    "batches": ["config", "messages", "process"],
    "doctor": [
        "config",
        "engine.cpu",
        "engine.decode",
        "engine.kvcache",
        "engine.loader",
        "engine.memory",
        "engine.ranks",
        "engine.work",
        "errors",
        "kernels",
        "messages",
        "models",
        "process",
    ],
    "client": ["config", "errors", "process"],
    "chat": ["client", "errors"],
    "launch": ["errors"],
    "bench": ["client", "doctor", "engine.cpu", "errors", "models", "process"],
    "service": ["errors"],
    "cli": [
        "bench",
        "chat",
        "client",
        "config",
        "doctor",
        "engine.ranks",
        "errors",
        "figures",
        "launch",
        "models",
        "process",
        "service",
    ],
    # The engine.
    "engine.work": ["figures", "messages"],
    "engine.lanes": ["engine.work", "figures", "messages"],
    "engine.fairness": [],
    "engine.pacing": [],
    "engine.weights": [],
    "engine.gguf": ["engine.cpu", "errors", "models"],
    "engine.memory": ["config", "engine.work", "footprint", "messages"],
    "engine.mirror": [],
    "engine.kvcache": ["engine.mirror", "errors", "models"],
    "engine.cpu": ["engine.kvcache", "kernels"],
    "engine.decode": [
        "config",
        "engine.fairness",
        "engine.kvcache",
        "engine.mirror",
        "engine.pacing",
        "engine.work",
        "errors",
        "figures",
        "grammar",
        "kernels",
        "messages",
        "token_bytes",
    ],
    "engine.fit": [
        "config",
        "engine.cpu",
        "engine.decode",
        "engine.embedding",
        "engine.kvcache",
        "engine.loader",
        "engine.memory",
        "engine.pacing",
        "engine.weights",
        "errors",
        "models",
    ],
    "engine.loader": [
        "config",
        "engine.cpu",
        "engine.gguf",
        "engine.weights",
        "errors",
        "models",
    ],
    "engine.embedding": [
        "config",
        "engine.cpu",
        "engine.fairness",
        "engine.loader",
        "engine.pacing",
        "engine.weights",
        "engine.work",
        "errors",
        "figures",
        "kernels",
        "messages",
        "models",
    ],
    "engine.ranks": [
        "config",
        "engine.cpu",
        "engine.decode",
        "engine.fit",
        "engine.loader",
        "engine.memory",
        "engine.mirror",
        "errors",
        "figures",
        "messages",
        "models",
        "process",
    ],
    "engine.residency": [
        "config",
        "engine.cpu",
        "engine.decode",
        "engine.embedding",
        "engine.fit",
        "engine.kvcache",
        "engine.lanes",
        "engine.loader",
        "engine.memory",
        "engine.mirror",
        "engine.ranks",
        "engine.work",
        "errors",
        "figures",
        "kernels",
        "messages",
        "models",
        "process",
    ],
    "engine": [
        "config",
        "engine.cpu",
        "engine.lanes",
        "engine.memory",
        "engine.ranks",
        "engine.residency",
        "engine.work",
        "errors",
        "figures",
        "footprint",
        "kernels",
        "messages",
        "models",
        "process",
    ],
    # The HTTP workers.
    "server.errors": [],
    "server.json_text": [],
    "server.notation": [],
    "server.parsing": ["server.notation"],
    "server.rendering": ["footprint", "process"],
    "server.deriving": ["server.notation", "server.parsing", "server.rendering"],
    "server.constraints": ["grammar", "server.errors", "server.notation"],
    "server.prompt": [
        "errors",
        "fair_threads",
        "server.constraints",
        "server.deriving",
        "server.errors",
        "server.json_text",
        "server.notation",
        "server.rendering",
        "token_bytes",
        "tokenizing",
    ],
    "server.registry": [
        "config",
        "errors",
        "figures",
        "messages",
        "models",
        "server.errors",
        "server.prompt",
    ],
    "server.page": [],
    "server.response_store": [],
    "server.seldom": [],
    "server.tracing": ["server.seldom"],
    "server.client": ["messages", "process", "server.errors", "server.prompt"],
    "server.answer": [
        "messages",
        "server.client",
        "server.constraints",
        "server.errors",
        "server.notation",
        "server.parsing",
        "server.prompt",
        "server.registry",
        "server.seldom",
    ],
    "server.formats": [
        "figures",
        "batches",
        "messages",
        "models",
        "server.answer",
        "server.constraints",
        "server.errors",
        "server.json_text",
        "server.notation",
        "server.prompt",
        "server.registry",
        "token_bytes",
    ],
    "server.reading": [
        "fair_threads",
        "process",
        "server.errors",
        "server.formats",
        "server.json_text",
        "server.seldom",
    ],
    "server.metrics": ["batches", "figures", "process"],
    "server.http": [
        "batches",
        "config",
        "errors",
        "figures",
        "messages",
        "server.answer",
        "server.client",
        "server.errors",
        "server.formats",
        "server.metrics",
        "server.reading",
        "server.registry",
        "server.response_store",
        "server.seldom",
        "server.tracing",
    ],
    "server.routes": [
        "config",
        "figures",
        "batches",
        "models",
        "server.answer",
        "server.constraints",
        "server.errors",
        "server.formats",
        "server.http",
        "server.page",
        "server.prompt",
        "server.registry",
        "tokenizing",
    ],
    "server": [
        "batches",
        "config",
        "errors",
        "fair_threads",
        "figures",
        "messages",
        "models",
        "process",
        "server.client",
        "server.errors",
        "server.http",
        "server.metrics",
        "server.registry",
        "server.response_store",
        "server.routes",
        "server.seldom",
        "server.tracing",
    ],
}


def room_of(module: str) -> str | None:
    """The innermost room of a module; None for mlxnode itself."""
    name = module.removeprefix(PREFIX)
    rooms = [room for room in MAY_IMPORT if name == room or name.startswith(f"{room}.")]
    return max(rooms, key=len, default=None)


def modules() -> dict[str, Path]:
    files = [*(ROOT / "mlxnode").rglob("*.py"), *(ROOT / "kernels").glob("*.py")]
    found = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[:2] == ("mlxnode", "kernels"):  # a link to the folder of that name
            continue
        name = ".".join(parts if parts[0] == "mlxnode" else ("mlxnode", *parts))
        found[name.removesuffix(".__init__")] = file
    return found


def imports_of(file: Path) -> set[str]:
    """Everything that a file imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith(PREFIX)}


@functools.cache
def imported_rooms() -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for module, file in modules().items():
        own = room_of(module)
        others = {room_of(name) for name in imports_of(file)} - {None, own}
        if own is not None:
            rooms[own] |= others
        else:
            assert others <= {"cli"}, f"{module} imports {others}"
    return rooms


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_it_may_and_no_more(room):
    assert sorted(imported_rooms()[room]) == sorted(MAY_IMPORT[room])


def test_the_rooms_form_no_circle():
    graphlib.TopologicalSorter(imported_rooms()).prepare()


def test_every_module_has_a_room():
    outside = {module for module in modules() if room_of(module) is None}
    assert outside == {"mlxnode", "mlxnode.__main__"}


@pytest.mark.parametrize(
    "package", [name for name, file in modules().items() if file.name == "__init__.py"]
)
def test_a_folder_says_what_it_holds_and_a_room_what_it_imports(package):
    text = ast.get_docstring(ast.parse(modules()[package].read_text(encoding="utf-8")))
    assert text, f"{package}/__init__.py"
    if package.removeprefix(PREFIX) in MAY_IMPORT:
        assert "import" in text.lower(), f"{package}/__init__.py"
