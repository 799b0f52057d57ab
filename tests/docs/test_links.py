"""Links between files, wherever they are written.

Sphinx checks the links of the site when it is built. These tests check the same in seconds, and the
files that the site does not have: the README and its neighbours, and paths that code names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.servers import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = [
    path
    for folder in ("syncws", "tests", "examples", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".html", ".js", ".conf"} and "_build" not in path.parts
]


def without_code(text: str) -> str:
    return re.sub(r"^ *(```+|:::+).*?^ *\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures that are in this repository."""
    text = re.sub(r"`[^`\n]*`(?!\])", "", without_code(page.read_text()))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """The names that links may give to the headings of a page, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_f16_each_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def test_a_path_of_a_page_that_is_named_exists() -> None:
    for source in [*ROOT.glob("*.md"), *SOURCES]:
        for name in re.findall(r"(?<![\w/])docs/[\w./-]+\.(?:md|svg|png|py)\b", source.read_text()):
            assert (ROOT / name).exists(), f"{source.relative_to(ROOT)} names {name}"


def test_each_page_is_in_a_table_of_contents() -> None:
    """Sphinx warns of this too."""
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "index.md"}
    for page in [path for path in PAGES if ROOT / "docs" in path.parents]:
        for contents in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            for entry in contents.split("\n"):
                if entry and not entry.startswith(":"):
                    name = re.sub(r".*<(.*)>", r"\1", entry)
                    pages.discard(page.parent / f"{name}.md")
    assert not pages
