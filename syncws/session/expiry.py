"""A session that expires: a Close at a moment that may be moved, without a thread of its own."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from ..close import CloseReason
from ..system.deadline import Deadline
from ..system.scheduler import SCHEDULER

__all__ = ["Expiry"]


class Expiry:
    """Calls ``close`` with a reason when the time has come. Every method may be called from any
    thread; ``close`` must not wait."""

    def __init__(self, close: Callable[[CloseReason], None]) -> None:
        self._close = close
        # Guards all below. Held for a few instructions. The scheduler's lock is taken under it.
        self._lock = threading.RLock()
        self._at = math.inf
        self._reason = CloseReason()
        self._scheduled = False
        self._over = False

    def set(self, seconds: float | None, reason: CloseReason) -> None:
        """Expire ``seconds`` from now, and at no other time; None for never.

        Raises ``RuntimeError`` when the system has no thread left.
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
        """The session has ended."""
        with self._lock:
            self._over = True
            self._leave()

    def _leave(self) -> None:
        self._at = math.inf
        if self._scheduled:
            self._scheduled = False
            SCHEDULER.leave(self)

    def on_time(self, now: float) -> None:
        """The scheduler calls this at the moment, or at an earlier one that was set before."""
        with self._lock:
            if now < self._at:
                if self._scheduled:
                    SCHEDULER.schedule(self, self._at)
                return
            reason = self._reason
            self._leave()
        self._close(reason)
