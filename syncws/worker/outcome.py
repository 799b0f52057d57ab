"""The results of handling a connection, on their way to the main thread."""

from __future__ import annotations

from collections import deque
from enum import Enum
from time import monotonic
from typing import Any

__all__ = ["Done", "Ends", "Outcome"]

#: Seconds in which ends of sessions do not wake the main thread again, unless it waits for one.
COUNT_EVERY = 0.05


class Outcome(Enum):
    """The results of handle() that gunicorn does not know."""

    #: It was a session's, and is closed.
    SESSION_OVER = "session over"
    #: It was an upgrade request's, and the peer may still be reading the answer.
    UPGRADE_OVER = "upgrade over"
    #: The main thread has to wait for its first byte.
    SILENT = "silent"
    #: A thread outside the pool has read the request's head.
    HEAD_READ = "head read"
    #: It is closed.
    CLOSED = "closed"


class Done:
    """The result of handle(), as gunicorn's finish_request() asks for it."""

    __slots__ = ("error", "outcome")

    def __init__(self) -> None:
        self.outcome: Any = None
        #: What it has raised instead.
        self.error: BaseException | None = None

    def cancelled(self) -> bool:
        return False

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.outcome


class Ends:
    """The sessions that are over and that the main thread still counts as connections.

    The main thread turns for each connection that it accepts. If it also turned for each session
    that ends, a session would cost another change of threads.
    """

    def __init__(self) -> None:
        self._over: deque[None] = deque()
        # From this moment on (monotonic) an end wakes the main thread.
        self._tell_at = 0.0

    def note(self) -> bool:
        """A session is over. Returns whether to wake the main thread. For any thread."""
        # Noted first and asked second, and the other way round in take(): no end is overlooked.
        self._over.append(None)
        return monotonic() >= self._tell_at

    def take(self, *, at_once: bool) -> int:
        """Return how many sessions are over. For the main thread. ``at_once`` says that the next
        end has to wake it."""
        self._tell_at = 0.0 if at_once else monotonic() + COUNT_EVERY
        number = len(self._over)
        for _ in range(number):
            self._over.popleft()
        return number
