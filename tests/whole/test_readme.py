"""README.md: its programs run, and a package index can show it."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

from ..support.servers import ROOT

README = (ROOT / "README.md").read_text()


def readme_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_hook", ROOT / ".ci" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_index_shows_no_broken_link_and_no_missing_picture() -> None:
    shown = readme_hook().for_an_index(README)
    links = re.findall(r"\]\(([^)]*)\)", shown)
    assert [link for link in links if not re.match("https?:", link)] == []
    assert "![" not in shown
    for_an_index = readme_hook().for_an_index
    assert for_an_index("a\n\n![b](c.png)\n\n[`d`](e.md) [f](https://g)\n") == (
        "a\n\n`d` [f](https://g)\n"
    )
