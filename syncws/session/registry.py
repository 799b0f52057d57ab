"""The sessions of this process: their figures, and their end with it.

``stats()`` is for users. A session is added when it has opened and removed when it is over. A
server that stops calls ``drain()``.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from ..close import Cause, CloseCode, CloseReason
from .common import Traffic

if TYPE_CHECKING:
    from .common import CommonSession

__all__ = ["REGISTRY", "Registry", "Stats", "stats"]

#: What sessions are told when their server stops.
GOING_AWAY = CloseReason(CloseCode.GOING_AWAY, "", "shutdown")

#: Seconds that the end of the interpreter waits for sessions that their server did not wait for.
AT_EXIT = 2.0


class Observer(Protocol):
    """Learns of every session of the process, in the session's thread, for metrics. Its methods
    must neither wait nor raise."""

    def opened(self, session: CommonSession) -> None: ...
    def closed(self, session: CommonSession) -> None: ...
    def refused(self, status: int) -> None: ...


@dataclass(frozen=True)
class Stats(dict[str, Any]):
    """Figures of this process's sessions, since it began. They are a dict, too, for
    ``json.dumps()``."""

    #: Sessions open now.
    open: int
    #: Sessions opened, those open now included.
    opened: int
    #: Sessions that have ended, by ``CloseReason.cause``.
    closed: dict[Cause, int]
    #: Upgrade requests answered with an HTTP status instead.
    refused: int
    messages_received: int
    messages_sent: int
    #: Bytes on the connections, frames' headers included, TLS's own not.
    bytes_received: int
    bytes_sent: int

    def __post_init__(self) -> None:
        self.update(vars(self))


class Registry:
    """The sessions of this process. Every method may be called from any thread.

    A process may have several servers, so a session is added with its server, and one server's
    sessions can be drained by themselves. What a server is does not matter here.
    """

    def __init__(self) -> None:
        #: Set once, before there are sessions; a fork keeps it.
        self.observer: Observer | None = None
        self._reset()

    def begin_in_child(self) -> None:
        """Begin anew in the child of a fork: the sessions are the parent's."""
        for session in self._sessions:
            session._leave_to_parent()
        self._reset()

    def _reset(self) -> None:
        # Guards all of the below; session._start_closing() is called without it.
        self._changed = threading.Condition()
        # The server of each session, in the order of their opening.
        self._sessions: dict[CommonSession, object] = {}
        # Whether every server drains, and those that do.
        self._draining = False
        self._draining_servers: WeakSet[Any] = WeakSet()
        self._opened = 0
        self._closed: Counter[Cause] = Counter()
        self._refused = 0
        self._past = Traffic()

    def add(self, session: CommonSession, server: object = None) -> None:
        """A session has opened, on ``server`` if the process may have several."""
        with self._changed:
            self._sessions[session] = server
            self._opened += 1
            draining = self._draining or (server is not None and server in self._draining_servers)
        if self.observer is not None:
            self.observer.opened(session)
        if draining:
            session._start_closing(GOING_AWAY)

    def remove(self, session: CommonSession) -> None:
        """A session is over; nothing happens when it was not added."""
        with self._changed:
            if session not in self._sessions:
                return
            del self._sessions[session]
            assert session._reason is not None
            self._closed[session._reason.cause] += 1
            self._past = self._past.plus(session._traffic())
            self._changed.notify_all()
        if self.observer is not None:
            self.observer.closed(session)

    def refused(self, status: int) -> None:
        """An upgrade request was refused with an HTTP status."""
        with self._changed:
            self._refused += 1
        if self.observer is not None:
            self.observer.refused(status)

    def oldest_first(self) -> list[CommonSession]:
        """The open sessions, in the order of their opening."""
        with self._changed:
            return list(self._sessions)

    def drain(self, server: object = None) -> None:
        """Tell every session of ``server`` at once that it goes away, and each session that still
        opens on it. None means all servers."""
        with self._changed:
            if server is None:
                self._draining = True
            else:
                self._draining_servers.add(server)
            sessions = [
                session
                for session, its_server in self._sessions.items()
                if server is None or its_server is server
            ]
        for session in sessions:
            session._start_closing(GOING_AWAY)

    def drain_at_exit(self) -> None:
        """The last chance: a server that knows nothing of sessions has stopped."""
        if self._sessions:
            self.drain()
            with self._changed:
                self._changed.wait_for(lambda: not self._sessions, AT_EXIT)

    def stats(self) -> Stats:
        with self._changed:
            traffic = self._past
            for session in self._sessions:
                traffic = traffic.plus(session._traffic())
            return Stats(
                len(self._sessions),
                self._opened,
                dict(self._closed),
                self._refused,
                *traffic,
            )


REGISTRY = Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=REGISTRY.begin_in_child)
atexit.register(REGISTRY.drain_at_exit)


def stats() -> Stats:
    """The figures of this process's sessions: with several gunicorn workers, of the one
    that is asked."""
    return REGISTRY.stats()
