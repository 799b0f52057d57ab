"""Telling the sessions that their worker stops: all at once, or spread over some seconds.

A session that gets its Close (1001) usually comes back at once. Told together, the sessions
of one worker are as many opening handshakes for the other workers in the same moment. The
environment variable ``SYNCWS_GOODBYE_SECONDS`` spreads them. Precedent: Phoenix drains its
sockets in batches.
"""

from __future__ import annotations

import math
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..session.registry import GOING_AWAY, REGISTRY

if TYPE_CHECKING:
    from ..session.common import CommonSession

__all__ = ["Goodbye", "goodbye_seconds"]

SETTING = "SYNCWS_GOODBYE_SECONDS"

#: Batches a second.
BATCHES = 10


def goodbye_seconds(cfg: Any) -> float:
    """The seconds that the operator has set, from gunicorn's ``raw_env`` or the environment;
    0 by default.

    Raises ``RuntimeError``, which ends gunicorn with its message, if they are not a number
    from 0 to less than ``graceful_timeout``.
    """
    text = cfg.env.get(SETTING) or os.environ.get(SETTING) or "0"
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < max(cfg.graceful_timeout, 1e-9):
        raise RuntimeError(
            f"{SETTING} is {text!r}: write a number of seconds, from 0 to less than "
            f"graceful_timeout ({cfg.graceful_timeout})"
        )
    return seconds


class Goodbye:
    """Tells the sessions, oldest first, within ``seconds``. For the main thread; ``hurry()``
    is for its signal handlers."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sessions: list[CommonSession] = []
        self._told = 0
        self._began_at = 0.0
        self._running = False

    def begin(self, *, at_once: bool) -> None:
        """The worker stops. ``at_once`` tells every session now."""
        if at_once or not self._seconds:
            REGISTRY.drain()
            return
        self._sessions = REGISTRY.oldest_first()
        self._began_at = monotonic()
        self._running = True
        self.go_on()

    def hurry(self) -> None:
        """Tell every session that is left with the next call of ``go_on()``."""
        self._seconds = 0.0

    def wait_at_most(self, timeout: float | None) -> float | None:
        """Seconds until the next batch, at most ``timeout`` (None: no limit)."""
        if not self._running:
            return timeout
        return 1 / BATCHES if timeout is None else min(timeout, 1 / BATCHES)

    def go_on(self) -> None:
        """Tell the sessions whose time has come."""
        if not self._running:
            return
        passed = monotonic() - self._began_at
        if passed >= self._seconds:
            self._running = False
            self._sessions = []
            REGISTRY.drain()  # those that opened meanwhile, too
            return
        due = math.ceil(len(self._sessions) * passed / self._seconds)
        for session in self._sessions[self._told : due]:
            session._start_closing(GOING_AWAY)
        self._told = max(self._told, due)
