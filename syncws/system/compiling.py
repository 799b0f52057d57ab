"""The compiled build (``.ci/compiled.py``): what the source says to mypyc, and whether it was used.

Only modules between the socket and ``receive()`` and ``send()`` are compiled. The same source runs
as Python where nothing is compiled, and behaves the same.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from .deadline import bounded

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**attributes: Any) -> Any:
        """Mark a class for mypyc; without effect where the class is not compiled."""
        return lambda marked: marked


__all__ = ["__compiled__", "mypyc_attr"]


#: Whether the functions of the compiled modules are machine code.
__compiled__: bool = not isinstance(bounded, FunctionType)
