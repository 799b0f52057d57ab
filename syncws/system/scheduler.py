"""The scheduler: one thread of the process that calls every session when it is due.

An idle session has nothing to do but send a ping now and then, and a ping never waits for
anything. So an idle session needs no thread of its own. The scheduler runs no user's code and
waits for no peer; a session that has to wait starts a thread of its own.
"""

from __future__ import annotations

import math
import os
import threading
from heapq import heappop, heappush
from time import monotonic
from typing import Protocol

from .deadline import bounded

__all__ = ["SCHEDULER", "Scheduler", "Timed"]

#: Ticks a second. Calls that are due within one tick are made together, so the thread wakes up
#: at most this often.
TICKS = 128

#: Seconds that the thread waits for another member after the last one has left.
LINGER = 10.0


class Timed(Protocol):
    """A member of the scheduler. ``on_time()`` is called by the scheduler's thread; it must
    neither wait nor raise."""

    def on_time(self, now: float) -> None: ...


class Scheduler:
    """Calls each member when it is due. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start empty in the child of a fork, which has neither the threads nor the sessions of
        its parent."""
        # Guards all of the below. Held for a few instructions. Reentrant, since a signal handler
        # may call schedule() in a thread that it has interrupted here. Taken by itself: the
        # condition takes it in Python code, which costs each session several calls.
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._members: set[Timed] = set()
        self._tick_of: dict[Timed, int] = {}
        self._due: dict[int, set[Timed]] = {}
        self._ticks: list[int] = []  # a heap: the keys of _due
        self._thread: threading.Thread | None = None

    def enter(self, timed: Timed) -> None:
        """Make ``timed`` a member.

        Raises ``RuntimeError`` when the system cannot start a thread.
        """
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="syncws scheduler", daemon=True)
                thread.start()
                self._thread = thread
            self._members.add(timed)

    def leave(self, timed: Timed) -> None:
        """End the membership of ``timed``. A call to it may be running; no other call follows."""
        with self._lock:
            self._members.discard(timed)  # after a fork, the parent's members are not here
            tick = self._tick_of.pop(timed, None)
            if tick is not None:
                self._due[tick].discard(timed)
            if not self._members:
                self._news.notify()

    def schedule(self, timed: Timed, when: float) -> None:
        """Call ``timed`` at the moment ``when`` (monotonic); ``math.inf`` means never.

        If an earlier call is due already, that call stays and this one is dropped. If ``timed``
        is not a member, nothing happens.
        """
        ticks = when * TICKS
        if ticks == math.inf:
            return  # never, or so late that a float cannot hold it
        tick = math.ceil(max(0.0, ticks))
        with self._lock:
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
        """Look again at what is due, after a test has moved the time."""
        with self._lock:
            self._news.notify()

    def _run(self) -> None:
        while (due := self._wait()) is not None:
            while due:
                # Popped, not iterated: a member that has been called is not kept alive here.
                due.pop().on_time(monotonic())

    def _wait(self) -> set[Timed] | None:
        """Wait for the next members that are due; None when there is no member any more."""
        with self._lock:
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
                    self._news.wait(bounded(left))
                else:
                    self._news.wait()
            due = self._due.pop(heappop(self._ticks))
            for timed in due:
                # A signal handler may call schedule() in a thread that it has interrupted in
                # schedule(). Then a member is due at two moments: one call too many does no harm.
                self._tick_of.pop(timed, None)
            return due


SCHEDULER = Scheduler()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=SCHEDULER.reset)
