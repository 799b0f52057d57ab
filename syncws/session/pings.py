"""The pings that a session has sent and the peer has not answered (RFC 6455 section 5.5.2)."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from time import monotonic
from typing import NamedTuple

from ..system.futures import resolve

__all__ = ["Outstanding", "Pings"]

#: How many pings may wait for an answer. Only a peer that ignores pings lets them reach this.
MAX_OUTSTANDING = 64


class Outstanding(NamedTuple):
    """A ping without an answer: its payload, when it was sent, and the future for its answer.

    ``answered`` is None for the pings of the keepalive.
    """

    payload: bytes
    sent_at: float
    answered: Future[float] | None


class Pings:
    """Outstanding pings, oldest first.

    The reader finds the answers, and the ping thread resolves the futures: their
    callbacks are users' code, so they run while no lock is held. Any thread may
    call every method except ``publish()``.
    """

    __slots__ = ("_lock", "_outstanding", "_results", "latency")

    def __init__(self) -> None:
        # Guards both queues. Held for a few instructions, never during I/O. Reentrant, because a
        # signal handler may send a ping in the thread that it has interrupted here.
        self._lock = threading.RLock()
        # Both are lists: they are short, and an empty list takes a tenth of a deque's memory.
        self._outstanding: list[Outstanding] = []
        #: How many seconds the answer to the last answered ping took; None before the first one.
        self.latency: float | None = None
        self._results: list[tuple[Future[float], float | Exception]] = []

    def new(self, answered: Future[float] | None = None) -> bytes:
        """Note a ping that is about to be sent. Returns its payload, which is random.

        Because nobody can guess the payload, it tells the pong of this ping from
        an unsolicited or a late pong (RFC 6455 section 5.5.3).
        """
        payload = os.urandom(8)
        with self._lock:
            if len(self._outstanding) >= MAX_OUTSTANDING:
                self._forget_one()
            self._outstanding.append(Outstanding(payload, monotonic(), answered))
        return payload

    def _forget_one(self) -> None:
        """Fail the oldest ping that a user waits for. If there is none, drop the second ping: the
        keepalive measures its timeout from the first."""
        users = (i for i, ping in enumerate(self._outstanding) if ping.answered is not None)
        index = next(users, 1)
        ping = self._outstanding[index]
        del self._outstanding[index]
        self._fail(ping, TimeoutError(f"no answer, and {MAX_OUTSTANDING} pings were sent since"))

    def answered(self, payload: bytes) -> bool:
        """Called when a pong has arrived. Returns True if there are futures to publish.

        A pong also answers all pings before its own: a peer may answer only the
        latest of several pings (RFC 6455 section 5.5.3).
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
        """Whether a user waits for the answer to a ping."""
        with self._lock:
            return any(ping.answered is not None for ping in self._outstanding)

    @property
    def outstanding(self) -> bool:
        """Whether a ping has no answer yet."""
        with self._lock:
            return bool(self._outstanding)

    def forget(self, payload: bytes) -> None:
        """Remove a ping that was noted but could not be sent."""
        with self._lock:
            self._outstanding = [p for p in self._outstanding if p.payload != payload]

    def oldest_keepalive(self) -> Outstanding | None:
        """The oldest ping of the keepalive that has no pong yet."""
        with self._lock:
            return next((p for p in self._outstanding if p.answered is None), None)

    def forget_keepalive(self) -> None:
        """Remove the pings of the keepalive: pings were turned off, or the peer showed that it is
        alive."""
        with self._lock:
            self._outstanding = [p for p in self._outstanding if p.answered is not None]

    def fail_all(self, error: Exception) -> None:
        """Fail all pings: the session is over, and no more answers come."""
        with self._lock:
            while self._outstanding:
                self._fail(self._outstanding.pop(0), error)

    def _fail(self, ping: Outstanding, error: Exception) -> None:
        if ping.answered is not None:
            self._results.append((ping.answered, error))

    def publish(self) -> None:
        """Resolve the futures that are due. The ping thread calls this and holds no lock."""
        while True:
            with self._lock:
                if not self._results:
                    return
                future, result = self._results.pop(0)
            resolve(future, result)
