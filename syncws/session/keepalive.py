"""Keepalive: when to send a ping, what counts as a sign of life, and when to give up.

This is the policy only: no I/O, no thread, and the time is an argument. ``attending.py`` carries it
out (RFC 6455 section 5.5.2).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Keepalive", "Signs"]


class Signs(NamedTuple):
    """What can be seen of a peer at one moment."""

    #: A number that grows with each byte of the peer that arrives.
    received: int
    #: Bytes that its system has acknowledged so far.
    acknowledged: int
    #: Whether bytes of the peer lie unread or unparsed on this side, or messages that the handler
    #: has not received keep it from being read. Then its pong may be among the bytes to come.
    unread: bool


class Keepalive:
    """The state of one session's keepalive. Guarded by the attending lock, except that any thread
    may set ``interval`` and ``timeout``."""

    __slots__ = (
        "_acknowledged",
        "_alive_at",
        "_last_ping_at",
        "_ping_ends_at",
        "_received",
        "_unread",
        "interval",
        "timeout",
    )

    def __init__(self, interval: float | None, timeout: float) -> None:
        #: Seconds between pings; None for no pings.
        self.interval = interval
        #: Seconds without a sign of life after which the peer is given up.
        self.timeout = timeout
        self._last_ping_at = 0.0
        # What had arrived at the last sign of life, and the moment of that sign.
        self._received = 0
        self._alive_at = 0.0
        # Whether the peer had unread bytes at the last look.
        self._unread = False
        # The position in the outgoing bytes at which the ping ends, and the bytes acknowledged at
        # the last look.
        self._ping_ends_at = 0
        self._acknowledged = 0

    def start(self, now: float) -> None:
        """The session has opened."""
        self._last_ping_at = self._alive_at = now

    def is_due(self, now: float) -> bool:
        """Whether to send a ping now."""
        return self.interval is not None and now >= self._last_ping_at + self.interval

    def pinging(self, now: float) -> None:
        """A ping is about to be sent."""
        self._last_ping_at = now

    def begin_waiting(self, signs: Signs, ping_ends_at: int) -> None:
        """A ping has been sent, and no other one is unanswered."""
        self._received = signs.received
        self._unread = signs.unread
        self._acknowledged = signs.acknowledged
        self._ping_ends_at = ping_ends_at

    def is_dead(self, now: float, waiting_since: float, signs: Signs) -> bool:
        """Whether to give up. ``waiting_since`` is the moment of the oldest unanswered ping.

        Any byte of the peer is a sign of life, and so is progress with the bytes in front of the
        ping: the peer can not answer what it has not received.

        A peer with unread bytes at the last look was held back until some moment since then. Its
        time begins now, since a thread may be at work on what it has just read.
        """
        arriving = self._acknowledged < signs.acknowledged < self._ping_ends_at
        self._acknowledged = signs.acknowledged
        held_back = self._unread or signs.unread
        self._unread = signs.unread
        if arriving or held_back or signs.received != self._received:
            self._received = signs.received
            self._alive_at = now
        return now >= self._deadline(waiting_since)

    def next_look(self, waiting_since: float | None) -> float | None:
        """The moment of the next ping, or of giving up if that comes first; None for never."""
        if self.interval is None:
            return None
        ping_at = self._last_ping_at + self.interval
        return ping_at if waiting_since is None else min(ping_at, self._deadline(waiting_since))

    def _deadline(self, waiting_since: float) -> float:
        return max(waiting_since, self._alive_at) + self.timeout
