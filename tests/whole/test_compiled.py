"""The compiled build: what the modules that mypyc compiles must not contain.

The code behaves the same as Python and compiled, as `.ci/run` shows with all tests. These are the
two differences that mypyc has been found to make.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import syncws

from ..support.servers import ROOT


def compiled_modules() -> list[str]:
    """Read without importing the hook, which needs hatchling."""
    for node in ast.parse((ROOT / ".ci" / "compiled.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES":
            modules: list[str] = ast.literal_eval(node.value)
            return modules
    raise AssertionError("the list has gone")


MODULES = compiled_modules()


def nodes(module: str) -> Iterator[ast.AST]:
    package = Path(syncws.__file__).parent
    return ast.walk(ast.parse((package / f"{module}.py").read_text()))


@pytest.mark.parametrize("module", MODULES)
def test_the_bounds_of_a_slice_are_computed_before(module: str) -> None:
    """mypyc 2.4 computes them twice: a call there sends the same bytes again."""
    for node in nodes(module):
        if isinstance(node, ast.Slice):
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
            assert all(ast.unparse(call.func) == "len" for call in calls), ast.unparse(node)


@pytest.mark.parametrize("module", MODULES)
def test_no_call_of_super_unpacks_its_arguments(module: str) -> None:
    """mypyc 2.4 passes the tuple itself."""
    for node in nodes(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("super()"):
            assert not any(isinstance(each, ast.Starred) for each in node.args), ast.unparse(node)


def test_the_package_says_whether_it_is_compiled() -> None:
    code = (
        "import syncws, syncws.system.transport as transport;"
        "print(syncws.__compiled__ is not transport.__file__.endswith('.py'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "True\n"
