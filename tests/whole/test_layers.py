"""The layers of the package: each module imports only modules of lower layers or of its own,
and there are no circles.

Every import counts, including imports under ``TYPE_CHECKING`` and inside functions: the reader of
a module has to know every type that the module names.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import syncws

PACKAGE = Path(syncws.__file__).parent

#: From the bottom up. A module may import its own layer and those before it.
LAYERS: list[list[str]] = [
    ["version", "static", "system"],
    ["close"],
    ["protocol"],
    ["base"],
    ["errors"],
    ["limits"],
    ["options"],
    ["session"],
    ["handlers", "listener", "typed_messages"],
    ["client", "hub"],
    ["upgrade"],
    ["server", "worker", "flask", "prometheus"],
    ["django"],
    ["compat"],
    ["testing", "cli_connect", "cli_serve"],
    ["pytest_plugin", "__main__", "__init__"],
]

#: Modules of one layer that must not import each other.
APART = [
    {"client", "hub"},
    {"server", "worker"},
    {"server", "flask"},
    {"worker", "flask"},
    {"worker", "django"},
    {"flask", "django"},
]

PURE = {"socket", "select", "ssl", "threading", "time"}


def modules() -> dict[str, Path]:
    """Every module, by its dotted name below the package, for example ``session.reader``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> tuple[set[str], set[str]]:
    """All imports of a module: our modules, and the top-level names of other packages."""
    path = MODULES[module]
    folder = path.parent.relative_to(PACKAGE).parts
    ours: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            others.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            base = [*folder[: len(folder) - node.level + 1], *(node.module or "").split(".")]
            name = ".".join(part for part in base if part)
            for alias in node.names:
                inner = f"{name}.{alias.name}" if name else alias.name
                ours.add(inner if inner in MODULES else name or "__init__")
    others = {name.partition(".")[0] for name in others}
    assert "syncws" not in others, f"{module} imports the package by its full name"
    return ours, others


def place(module: str) -> str:
    return module.partition(".")[0]


def layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if place(module) in names)


def test_every_module_has_its_layer() -> None:
    assert {place(module) for module in MODULES} == {name for names in LAYERS for name in names}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downwards(module: str) -> None:
    for imported in imports(module)[0]:
        assert layer(imported) <= layer(module), f"{module} imports {imported}"
        both = {place(module), place(imported)}
        assert len(both) == 1 or both not in APART, f"{module} imports {imported}"


def test_there_are_no_circles() -> None:
    graph = {module: imports(module)[0] - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {error.args[1]}")


def test_what_lies_at_the_bottom_knows_nothing_of_ours() -> None:
    for module in MODULES:
        allowed = {"system": {"system"}, "protocol": {"protocol", "close"}}.get(place(module))
        if allowed is not None:
            assert {place(name) for name in imports(module)[0]} <= allowed, module


@pytest.mark.parametrize("module", [name for name in sorted(MODULES) if place(name) == "protocol"])
def test_the_protocol_has_no_io_threads_or_clock(module: str) -> None:
    assert not imports(module)[1] & PURE


def test_only_the_worker_imports_gunicorn() -> None:
    assert {place(m) for m in MODULES if "gunicorn" in imports(m)[1]} == {"worker"}


def test_files_stay_small() -> None:
    long = {m: n for m in MODULES if (n := len(MODULES[m].read_text().splitlines())) > 400}
    assert not long, "split these: one concept a file"


def test_a_folder_has_at_least_four_files_and_says_what_belongs_there() -> None:
    for init in PACKAGE.rglob("__init__.py"):
        if "management" in init.parts:
            continue  # Django looks for its commands in these two folders
        assert (ast.get_docstring(ast.parse(init.read_text())) or "").strip()
        files = [path for path in init.parent.glob("*.py") if path != init]
        assert len(files) >= 4, f"{init.parent.name} has fewer than four files: keep them flat"
