"""The expiry of a session: a Close at a set moment, which may be changed. It takes no thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from ..close import CloseReason
from ..system.deadline import Deadline
from ..system.scheduler import SCHEDULER

__all__ = ["Expiry"]


class Expiry:
    """Calls ``close`` with a reason at the set moment. ``close`` must not wait. Any thread may call
    every method."""

    def __init__(self, close: Callable[[CloseReason], None]) -> None:
        self._close = close
        # Guards all fields below. Held for a few instructions. The scheduler's lock may be taken
        # while it is held.
        self._lock = threading.RLock()
        self._at = math.inf
        self._reason = CloseReason()
        self._scheduled = False
        self._over = False

    def set(self, seconds: float | None, reason: CloseReason) -> None:
        """Expire ``seconds`` from now. This replaces an earlier time. None means never.

        Raises ``RuntimeError`` if the system can not start the scheduler's thread.
        """
        with self._lock:
            if self._over:
                return
            if seconds is None:
                self._leave()
                return
            if not self._scheduled:
                SCHEDULER.enter(self)
                self._scheduled = True
            self._at, self._reason = Deadline(seconds).at, reason
            SCHEDULER.schedule(self, self._at)

    def end(self) -> None:
        """Called when the session has ended. After that the expiry does nothing."""
        with self._lock:
            self._over = True
            self._leave()

    def _leave(self) -> None:
        self._at = math.inf
        if self._scheduled:
            self._scheduled = False
            SCHEDULER.leave(self)

    def on_time(self, now: float) -> None:
        """The scheduler calls this at the set moment, or at an earlier moment that was replaced."""
        with self._lock:
            if now < self._at:
                if self._scheduled:
                    SCHEDULER.schedule(self, self._at)
                return
            reason = self._reason
            self._leave()
        self._close(reason)
