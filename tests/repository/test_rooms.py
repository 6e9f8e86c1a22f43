"""The rooms of the package: what each may import, without circles, and that each says so."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest
from repository.rooms import MAY_IMPORT

ROOT = Path(__file__).parents[2]
PREFIX = "mlxnode."


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
