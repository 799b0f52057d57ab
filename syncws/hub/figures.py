"""The hubs of this process, and what each has done.

Metrics read the figures. The child of a fork begins each hub anew.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple, Protocol
from weakref import WeakSet

__all__ = ["HUBS", "Figures", "Living"]


class Figures(NamedTuple):
    """What a hub has done in this process. All but ``members`` only grow."""

    members: int
    dropped: dict[str, int]
    undelivered: int
    gaps: int


class Living(Protocol):
    """A hub."""

    @property
    def _prefix(self) -> str: ...
    def _figures(self) -> Figures: ...
    def _after_fork(self) -> None: ...


class _Hubs:
    """Every hub that is alive. Any thread may call every method."""

    def __init__(self) -> None:
        # Guards _hubs.
        self._lock = threading.Lock()
        self._hubs: WeakSet[Living] = WeakSet()

    def add(self, hub: Living) -> None:
        with self._lock:
            self._hubs.add(hub)

    def all(self) -> list[Living]:
        with self._lock:
            return list(self._hubs)

    def begin_in_child(self) -> None:
        """In the child of a fork: its parent's sessions are its parent's."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        for hub in self.all():
            hub._after_fork()


HUBS = _Hubs()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=HUBS.begin_in_child)
