"""The sessions of this process: their statistics, and how they end when a server stops.

A session is added when it has opened, and removed when it is over. A server that stops calls
``drain()``. Users call ``stats()``.
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

#: The reason with which sessions are closed when their server stops.
GOING_AWAY = CloseReason(CloseCode.GOING_AWAY, "", "shutdown")

#: If a server did not wait for its sessions, the interpreter waits so many seconds for them before
#: it exits.
AT_EXIT = 2.0


class Observer(Protocol):
    """Is called for every session of the process, in the session's thread, to record metrics. Its
    methods must not wait and must not raise."""

    def opened(self, session: CommonSession) -> None: ...
    def closed(self, session: CommonSession) -> None: ...
    def refused(self, status: int) -> None: ...


@dataclass(frozen=True)
class Stats(dict[str, Any]):
    """Statistics of the sessions of this process since its start. The object is also a dict, so
    you can pass it to ``json.dumps()``."""

    #: Sessions open now.
    open: int
    #: Sessions that have been opened, including those that are open now.
    opened: int
    #: Sessions that have ended, by ``CloseReason.cause``.
    closed: dict[Cause, int]
    #: Upgrade requests that were refused with an HTTP status.
    refused: int
    messages_received: int
    messages_sent: int
    #: Bytes on the connections, including the headers of frames, not including TLS's overhead.
    bytes_received: int
    bytes_sent: int

    def __post_init__(self) -> None:
        self.update(vars(self))


class Registry:
    """The sessions of this process. Every method may be called from any thread.

    A process may have several servers. A session is therefore added with its server, and the
    sessions of one server can be drained without the others. Any object can stand for a server.
    """

    def __init__(self) -> None:
        #: Set once, before the first session opens. It is kept in the child of a fork.
        self.observer: Observer | None = None
        self._reset()

    def begin_in_child(self) -> None:
        """Start without sessions in the child of a fork: the sessions belong to the parent."""
        for session in self._sessions:
            session._leave_to_parent()
        self._reset()

    def _reset(self) -> None:
        # Guards all fields below. It is not held while session._start_closing() is called. Taken
        # by itself: the condition takes it in Python code, which costs each session two calls.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        # The server of each session, in the order in which the sessions opened.
        self._sessions: dict[CommonSession, object] = {}
        # Whether all servers are draining, and which servers are draining.
        self._draining = False
        self._draining_servers: WeakSet[Any] = WeakSet()
        self._opened = 0
        self._closed: Counter[Cause] = Counter()
        self._refused = 0
        self._past = Traffic()

    def add(self, session: CommonSession, server: object = None) -> None:
        """Add a session that has opened on ``server``. None is for a server that is the only one of
        its process."""
        with self._lock:
            self._sessions[session] = server
            self._opened += 1
            draining = self._draining or (server is not None and server in self._draining_servers)
        if self.observer is not None:
            self.observer.opened(session)
        if draining:
            session._start_closing(GOING_AWAY)

    def remove(self, session: CommonSession) -> None:
        """Remove a session that is over. If it was not added, this does nothing."""
        with self._lock:
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
        """Count an upgrade request that was refused with an HTTP status."""
        with self._lock:
            self._refused += 1
        if self.observer is not None:
            self.observer.refused(status)

    def oldest_first(self) -> list[CommonSession]:
        """The open sessions, in the order in which they opened."""
        with self._lock:
            return list(self._sessions)

    def drain(self, server: object = None) -> None:
        """Close every session of ``server`` with 1001, without waiting for the ends. A session that
        opens on it later is closed in the same way. None means all servers."""
        with self._lock:
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
        """Drain the sessions that are left when the interpreter exits. This is for servers that
        have stopped and do not call ``drain()`` themselves."""
        if self._sessions:
            self.drain()
            with self._lock:
                self._changed.wait_for(lambda: not self._sessions, AT_EXIT)

    def stats(self) -> Stats:
        with self._lock:
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
    """Return the statistics of this process's sessions. With several gunicorn workers, they are
    those of the worker that calls this. Any thread may call it."""
    return REGISTRY.stats()
