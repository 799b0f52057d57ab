"""The open sessions of a server, which are told at once when it goes away."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .close import CloseCode, CloseReason

if TYPE_CHECKING:
    from .session import Session

__all__ = ["OpenSessions"]

_GOING_AWAY = CloseReason(CloseCode.GOING_AWAY, "", "shutdown")


class OpenSessions:
    """For any thread."""

    def __init__(self) -> None:
        # Guards the two below; session.start_closing() is called without it.
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._going_away = False

    def add(self, session: Session) -> None:
        """A session has opened; it is closed at once when the server is going away."""
        with self._lock:
            self._sessions.add(session)
            going_away = self._going_away
        if going_away:
            session.start_closing(_GOING_AWAY)

    def remove(self, session: Session) -> None:
        """A session is over."""
        with self._lock:
            self._sessions.discard(session)

    def go_away(self) -> None:
        """Send a Close with 1001 to all, and to those that open from now on."""
        with self._lock:
            self._going_away = True
            sessions = list(self._sessions)
        for session in sessions:
            session.start_closing(_GOING_AWAY)
