"""The Python in the pages, block by block."""

from __future__ import annotations

import builtins
import re
import symtable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from ..support.servers import ROOT

__all__ = ["DOCS", "PAGES", "Block", "blocks_of"]

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]

_BLOCK = re.compile(
    r"^(?:<!-- not run: (.+) -->\n\n?)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A code block ```` ```python ```` of a page."""

    page: Path
    #: Where its first line of code is in the page, from 1 on.
    line: int
    code: str
    #: Why it is not run.
    excuse: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def compile(self) -> CodeType:
        """Compile it, so that tracebacks name the page and its lines."""
        return compile("\n" * (self.line - 1) + self.code, str(self.page), "exec")

    @property
    def unbound(self) -> set[str]:
        """The names that it uses and does not bind. A program has none, a fragment some."""
        module = symtable.symtable(self.code, str(self), "exec")
        bound = {symbol.get_name() for symbol in module.get_symbols() if _binds(symbol)}
        return _globals(module) - bound - set(dir(builtins)) - {"__file__", "__name__"}


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("code")) + 1, found["code"], found[1] or "")
        for found in _BLOCK.finditer(text)
    ]


def _binds(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _globals(table: symtable.SymbolTable) -> set[str]:
    module = table.get_type() == "module"
    used = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (module or symbol.is_global())
    }
    return used.union(*(_globals(child) for child in table.get_children()))
