"""The pings a session has sent and not seen answered (RFC 6455 section 5.5.2)."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from time import monotonic
from typing import NamedTuple

from ..system.futures import resolve

__all__ = ["Outstanding", "Pings"]

#: More pings than this wait for an answer only when a peer ignores them all.
MAX_OUTSTANDING = 64


class Outstanding(NamedTuple):
    """A ping on its way: its payload, when it was sent, and who wants to know.

    ``answered`` is None for the pings of the keepalive.
    """

    payload: bytes
    sent_at: float
    answered: Future[float] | None


class Pings:
    """Outstanding pings, oldest first.

    The reader finds the answers, the ping thread resolves the futures: their
    callbacks are users' code and run outside of every lock. All methods are
    for any thread, except ``publish()``.
    """

    def __init__(self) -> None:
        # Guards both queues. Held for a few instructions, never over I/O. Reentrant, since a
        # signal handler may ping in the thread that it has interrupted here.
        self._lock = threading.RLock()
        # Lists: they are short, and an empty one costs a tenth of a deque.
        self._outstanding: list[Outstanding] = []
        #: Seconds that the last answered ping took; None before there was one.
        self.latency: float | None = None
        self._results: list[tuple[Future[float], float | Exception]] = []

    def new(self, answered: Future[float] | None = None) -> bytes:
        """Note a ping that is about to be sent; gives its payload, a random one.

        A payload that cannot be guessed tells this ping's pong from an
        unsolicited or a late one (RFC 6455 section 5.5.3).
        """
        payload = os.urandom(8)
        with self._lock:
            if len(self._outstanding) >= MAX_OUTSTANDING:
                self._forget_one()
            self._outstanding.append(Outstanding(payload, monotonic(), answered))
        return payload

    def _forget_one(self) -> None:
        """The oldest of a user's; else not the first: from it the keepalive counts."""
        users = (i for i, ping in enumerate(self._outstanding) if ping.answered is not None)
        index = next(users, 1)
        ping = self._outstanding[index]
        del self._outstanding[index]
        self._fail(ping, TimeoutError(f"no answer, and {MAX_OUTSTANDING} pings were sent since"))

    def answered(self, payload: bytes) -> bool:
        """A pong came. Gives True when there are futures to publish.

        A pong answers the pings before its own too: a peer may answer only
        the latest of several (RFC 6455 section 5.5.3).
        """
        now = monotonic()
        with self._lock:
            if not any(ping.payload == payload for ping in self._outstanding):
                return False
            while True:
                ping = self._outstanding.pop(0)
                self.latency = now - ping.sent_at
                if ping.answered is not None:
                    self._results.append((ping.answered, now - ping.sent_at))
                if ping.payload == payload:
                    return bool(self._results)

    @property
    def due(self) -> bool:
        """Whether there are futures to publish."""
        return bool(self._results)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the answer to a ping."""
        with self._lock:
            return any(ping.answered is not None for ping in self._outstanding)

    def forget(self, payload: bytes) -> None:
        """A ping that was noted could not be sent."""
        with self._lock:
            self._outstanding = [p for p in self._outstanding if p.payload != payload]

    def oldest_keepalive(self) -> Outstanding | None:
        """The keepalive's ping that has waited longest for its pong."""
        with self._lock:
            return next((p for p in self._outstanding if p.answered is None), None)

    def forget_keepalive(self) -> None:
        """The keepalive no longer cares: pings were turned off, or the peer showed life."""
        with self._lock:
            self._outstanding = [p for p in self._outstanding if p.answered is not None]

    def fail_all(self, error: Exception) -> None:
        """The session is over: no more answers."""
        with self._lock:
            while self._outstanding:
                self._fail(self._outstanding.pop(0), error)

    def _fail(self, ping: Outstanding, error: Exception) -> None:
        if ping.answered is not None:
            self._results.append((ping.answered, error))

    def publish(self) -> None:
        """Resolve the futures that are due. By the ping thread, holding no lock."""
        while True:
            with self._lock:
                if not self._results:
                    return
                future, result = self._results.pop(0)
            resolve(future, result)
