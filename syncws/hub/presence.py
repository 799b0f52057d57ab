"""Calls the ``on_presence`` callbacks, in a thread of the hub's own, when members come or go.

The thread compares the members that the bus lists with those that it listed before. So a lost
notice delays a call but never prevents it, and each join or leave is told once. The thread runs
while a room has members in this process.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from ..errors import HubError
from ..system.deadline import bounded
from ..system.logs import logger
from .bus import Present

__all__ = ["OnPresence", "Watcher"]

OnPresence = Callable[[str, dict[str, Any], dict[str, Any]], Any]

#: Seconds between two looks at one room, at least. So a thousand joins cause a few looks.
LOOK_EVERY = 0.05
#: Seconds after which a room is looked at without a notice: a process may have been killed.
LOOK_ANYWAY = 10.0
#: Seconds before the next look if the bus did not answer, or does not know all members.
LOOK_AGAIN = 1.0


class Watcher:
    """Any thread may call every method. "To look at" a room is to ask the bus for its members."""

    def __init__(self, present: Callable[[str], Present]) -> None:
        self._present = present
        self.callbacks: list[OnPresence] = []
        self.begin()

    def begin(self) -> None:
        """Begin anew, in each process."""
        # Guards the attributes below.
        self._changed = threading.Condition()
        # By room: the members that callbacks know, and when to look next (monotonic).
        self._known: dict[str, dict[str, Any]] = {}
        self._due: dict[str, float] = {}
        self._looked: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def watch(self, room: str) -> None:
        """Begin to watch a room before a member joins: the members that it finds are not news.

        Raises ``RuntimeError`` if the system has no thread left.
        """
        if not self.callbacks or room in self._known:
            return
        try:
            known = self._present(room).members
        except HubError:
            known = {}
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="syncws presence", daemon=True)
                thread.start()
                self._thread = thread
            self._known.setdefault(room, known)
            self._due.setdefault(room, monotonic() + LOOK_ANYWAY)

    def look(self, room: str) -> None:
        """Look at a room soon: its members have changed."""
        with self._changed:
            if room in self._known:
                self._due[room] = max(monotonic(), self._looked.get(room, 0.0) + LOOK_EVERY)
                self._changed.notify_all()

    def forget(self, room: str) -> None:
        """Stop watching a room, which has no members here any more."""
        with self._changed:
            for each in (self._known, self._due, self._looked):
                each.pop(room, None)
            self._changed.notify_all()

    def close(self, timeout: float) -> None:
        with self._changed:
            self._known.clear()
            self._due.clear()
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while (room := self._next()) is not None:
            try:
                present = self._present(room)
            except HubError:
                self._later(room, LOOK_AGAIN)
            except Exception:  # of any kind: it must not end the thread, which has other rooms
                logger.exception("the members of %r could not be found out", room)
                self._later(room, LOOK_ANYWAY)
            else:
                self._compare(room, present)

    def _next(self) -> str | None:
        """Wait until a room is due, and return it. Return None if no room is left."""
        with self._changed:
            while self._due:
                room, when = min(self._due.items(), key=lambda item: item[1])
                left = when - monotonic()
                if left <= 0:
                    self._due[room] = math.inf
                    self._looked[room] = monotonic()
                    return room
                self._changed.wait(bounded(left))
            self._thread = None
            return None

    def _later(self, room: str, seconds: float) -> None:
        with self._changed:
            if room in self._known:
                self._due[room] = min(self._due[room], monotonic() + seconds)

    def _compare(self, room: str, present: Present) -> None:
        with self._changed:
            known = self._known.get(room)
            if known is None:
                return
            members = present.members if present.complete else {**known, **present.members}
            self._known[room] = members
            wait = LOOK_ANYWAY if present.changes_in is None else present.changes_in + 0.001
            if not present.complete:
                wait = min(wait, LOOK_AGAIN)
            self._due[room] = min(self._due[room], monotonic() + min(LOOK_ANYWAY, wait))
        joined = {name: info for name, info in members.items() if name not in known}
        left = {name: info for name, info in known.items() if name not in members}
        if joined or left:
            for callback in self.callbacks:
                try:
                    callback(room, dict(joined), dict(left))
                except Exception:  # the user's; the other callbacks have to be called too
                    logger.exception("an on_presence callback for %r failed", room)
