"""The hubs of this process, and the figures of each, which metrics read.

The child of a fork begins each hub anew.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..system.living import Living

__all__ = ["HUBS", "CountedHub", "Figures"]


class Figures(NamedTuple):
    """The figures of a hub in this process. All but ``members`` only grow."""

    members: int
    dropped: dict[str, int]
    undelivered: int
    gaps: int


class CountedHub(Protocol):
    """The part of a hub that metrics use."""

    @property
    def _prefix(self) -> str: ...
    def _figures(self) -> Figures: ...
    def _after_fork(self) -> None: ...


#: Every hub that is alive. A child of a fork has none of its parent's sessions.
HUBS: Living[CountedHub] = Living(lambda hub: hub._after_fork())
