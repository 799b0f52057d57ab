"""The sessions of this process: their figures, and their end with it.

``stats()`` is for users. Servers add a session when it has opened, remove it
when it is over, and ``drain()`` all of them when they stop.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..close import Cause, CloseCode, CloseReason
from .common import Traffic

if TYPE_CHECKING:
    from .common import CommonSession

__all__ = ["REGISTRY", "Registry", "Stats", "stats"]

#: What sessions are told when their server stops.
GOING_AWAY = CloseReason(CloseCode.GOING_AWAY, "", "shutdown")

#: Seconds that the end of the interpreter waits for sessions whose server has
#: not waited for them.
AT_EXIT = 2.0


class Observer(Protocol):
    """Is told of every session of the process, in the session's thread. Must neither wait nor
    raise. For metrics."""

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
    """The sessions of this process, or those of one of its servers. Every method is
    for any thread."""

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
        # In the order of their opening; a dict for its order.
        self._sessions: dict[CommonSession, None] = {}
        self._draining = False
        self._opened = 0
        self._closed: Counter[Cause] = Counter()
        self._refused = 0
        self._past = Traffic()

    def add(self, session: CommonSession) -> None:
        """A session has opened."""
        with self._changed:
            self._sessions[session] = None
            self._opened += 1
            draining = self._draining
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

    def drain(self) -> None:
        """Tell every session at once that the server goes away, those to come included."""
        with self._changed:
            self._draining = True
            sessions = list(self._sessions)
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
