"""How many messages a session may receive in a time: the limit, and its arithmetic.

No thread, clock or I/O: the caller says what time it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Bucket", "Rate"]


@dataclass(frozen=True)
class Rate:
    """A limit on the messages that a session receives, for the option ``rate``::

        @syncws.websocket(rate=syncws.Rate(20, per=1.0, burst=40))

    ``messages`` may be received in ``per`` seconds, on average. ``burst`` (None: as many as
    ``messages``, at least one) may be received at once after a quiet time. A message in
    fragments, and one that is received as a stream, counts once. Pings do not count.

    ``over`` says what happens to a peer that sends more. ``"wait"``: ``receive()`` waits before
    it returns the next message, TCP holds the peer back, and pings are still answered.
    ``"close"``: the session is closed with 1008, and ``receive()`` raises ``ConnectionClosed``.
    Messages that piled up while the handler was busy do not count as sent at once.

    Raises ``TypeError`` or ``ValueError`` for values that cannot be.
    """

    messages: float
    per: float = 1.0
    burst: int | None = None
    over: Literal["wait", "close"] = "wait"

    def __post_init__(self) -> None:
        _check_number("messages", self.messages)
        _check_number("per", self.per)
        if self.burst is not None:
            _check_number("burst", self.burst)
            if self.burst < 1:
                raise ValueError(f"burst is at least one message, not {self.burst!r}")
        if self.over not in ("wait", "close"):
            raise ValueError(f'over is "wait" or "close", not {self.over!r}')


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} of a Rate is a number, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} of a Rate must be greater than 0, and finite, not {value!r}")


class Bucket:
    """Tokens that are added with time: a message takes one. For one thread at a time."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_second = rate.messages / rate.per
        self._room = max(1.0, rate.messages if rate.burst is None else rate.burst)
        self._tokens = self._room
        self._filled_at = now

    def fill(self, now: float) -> None:
        """Add the tokens of the time since the last call, however many."""
        self._tokens += (now - self._filled_at) * self._per_second
        self._filled_at = now

    def cap(self) -> None:
        """Throw away the tokens beyond the burst."""
        self._tokens = min(self._tokens, self._room)

    def wait(self) -> float:
        """Seconds until there is a token; 0 if there is one."""
        # A message must not wait for what rounding has taken.
        return max(0.0, (1.0 - self._tokens - 1e-9) / self._per_second)

    def take(self) -> None:
        """Take the token of a message."""
        self._tokens -= 1.0
