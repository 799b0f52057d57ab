"""The clock: one thread of the process, which looks after all sessions in time.

An idle session has nothing to do but send a ping now and then, and that never
waits for anything. So no session needs a thread for it: the clock calls each
one when it is due. It runs nobody else's code and waits for nobody; a session
that needs more than a look gets a thread of its own.
"""

from __future__ import annotations

import math
import os
import threading
from heapq import heappop, heappush
from time import monotonic
from typing import Protocol

__all__ = ["SCHEDULER", "Scheduler", "Timed"]

#: Looks a second at most: what is due at about the same time is seen to together.
TICKS = 128

#: Seconds that the thread waits for another session after the last one has gone.
LINGER = 10.0


class Timed(Protocol):
    """What the clock calls. ``on_time()`` never waits, and never raises."""

    def on_time(self, now: float) -> None: ...


class Scheduler:
    """Calls what is due. Every method is for any thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, in the child of a fork: threads do not survive one, nor do sessions."""
        # Guards all of the below. Held for a few instructions.
        self._news = threading.Condition()
        self._members: set[Timed] = set()
        self._tick_of: dict[Timed, int] = {}
        self._due: dict[int, set[Timed]] = {}
        self._ticks: list[int] = []  # a heap: the keys of _due
        self._thread: threading.Thread | None = None

    def enter(self, timed: Timed) -> None:
        """One more needs the clock. Raises ``RuntimeError`` when the system has no thread left."""
        with self._news:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="syncws scheduler", daemon=True)
                thread.start()
                self._thread = thread
            self._members.add(timed)

    def leave(self, timed: Timed) -> None:
        """One less does. It may be in a call at this moment, but gets no other."""
        with self._news:
            self._members.discard(timed)  # which the parent's are not, after a fork
            tick = self._tick_of.pop(timed, None)
            if tick is not None:
                self._due[tick].discard(timed)
            if not self._members:
                self._news.notify()

    def schedule(self, timed: Timed, when: float) -> None:
        """Call ``timed`` at ``when`` (monotonic), unless a call is due before that,
        or it has left."""
        tick = math.ceil(when * TICKS)
        with self._news:
            if timed not in self._members:
                return
            before = self._tick_of.get(timed)
            if before is not None:
                if before <= tick:
                    return
                self._due[before].discard(timed)
            self._tick_of[timed] = tick
            if tick in self._due:
                self._due[tick].add(timed)
                return
            self._due[tick] = {timed}
            heappush(self._ticks, tick)
            if self._ticks[0] == tick:
                self._news.notify()

    def look(self) -> None:
        """Look what is due: time has been moved, by a test."""
        with self._news:
            self._news.notify()

    def _run(self) -> None:
        while (due := self._wait()) is not None:
            while due:  # and keep none: it may be over before the next is due
                due.pop().on_time(monotonic())

    def _wait(self) -> set[Timed] | None:
        """Wait for what is due; None when nobody needs the clock any more."""
        with self._news:
            while True:
                if not self._members:
                    self._tick_of.clear()
                    self._due.clear()
                    self._ticks.clear()
                    if not self._news.wait(LINGER) and not self._members:
                        self._thread = None
                        return None
                elif self._ticks:
                    left = self._ticks[0] / TICKS - monotonic()
                    if left <= 0:
                        break
                    self._news.wait(min(left, threading.TIMEOUT_MAX))
                else:
                    self._news.wait()
            due = self._due.pop(heappop(self._ticks))
            for timed in due:
                del self._tick_of[timed]
            return due


SCHEDULER = Scheduler()
os.register_at_fork(after_in_child=SCHEDULER.reset)
