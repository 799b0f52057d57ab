"""The reference documents every public name, and nothing else."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

from ..whole.public_names import MODULES
from .blocks import DOCS

#: Names that users do not import: what a property returns, and fixtures that pytest finds.
NOT_IMPORTED = {
    "syncws.session.outgoing.Outgoing",
    "syncws.pytest_plugin.no_handler_is_left_running",
    "syncws.pytest_plugin.websocket_client",
    "syncws.pytest_plugin.websocket_clock",
}
#: Opcode is wsproto's, and ``upgrade_view`` is for ``syncws.compat``.
NOT_FOR_IT = {"syncws.Opcode", "syncws.flask.upgrade_view"}


def test_the_reference_finds_the_comments_on_attributes() -> None:
    """autodoc looks for them in the file of the module that a class names."""
    program = """
import inspect, runpy, sys, syncws, syncws.testing
runpy.run_path(sys.argv[1])["restore_modules"]()
for module in (syncws, syncws.testing):
    for name in set(module.__all__) - {"Opcode"}:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            assert inspect.getsourcefile(thing) == sys.modules[thing.__module__].__file__, name
            source = inspect.getsource(sys.modules[thing.__module__])
            assert f"class {thing.__name__}" in source, name
"""
    subprocess.run([sys.executable, "-c", program, str(DOCS / "conf.py")], check=True, timeout=60)


def test_f16_every_public_name_is_in_the_reference_once() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = re.findall(r"^\.\. auto\w+:: ([\w.]+)$", pages, re.MULTILINE)
    assert len(documented) == len(set(documented))
    public = {
        f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__
    }
    assert set(documented) == public - NOT_FOR_IT | NOT_IMPORTED
    assert "`syncws.Opcode`" in pages
