"""The bus: what connects the hub of this process with those of others.

``Bus`` is the interface. ``MemoryBus`` is the bus of one process: it keeps the history and the
presence in memory, and talks to no other process.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from ..errors import HubError
from . import wire
from .history import History, MemoryLog, Missed
from .wire import Envelope, Position

__all__ = ["Arrived", "Bus", "MemoryBus", "MisuseError", "Present", "RefusedError"]

#: ``arrived(room, envelope, position)`` delivers to the members in this process.
Arrived = Callable[[str, Envelope, Position | None], None]


class Present(NamedTuple):
    """The members of a room by name, and after how many seconds they change by themselves.

    ``complete`` is False after the server has lost its members, until all processes have told it
    again. Until then, a member that is missing here has not left.
    """

    members: dict[str, Any]
    changes_in: float | None
    complete: bool = True


class RefusedError(HubError):
    """The server has answered that it refuses the command."""


class MisuseError(HubError):
    """The caller's fault, not the bus's: the hub is closed, or a message is too large."""


class Bus(ABC):
    """Any thread may call every method. A method that talks to a server raises ``HubError`` if
    the server can not be reached, or refuses."""

    #: How often messages of other processes may have been missed.
    gaps = 0
    #: Whether the server was reached when it was last needed.
    connected = True
    #: Whether there may be other processes, which publish() reaches.
    shared = False
    #: The name of this process in its messages.
    process = bytes(wire.SENDER)

    @abstractmethod
    def begin(self) -> None:
        """Begin anew, in each process."""

    @abstractmethod
    def set_count(self, room: str, count: int) -> int:
        """Tell the bus how many members a room has here. Returns a ticket for ``wait()``."""

    @abstractmethod
    def set_present(self, room: str, member: str, info: str | None) -> int:
        """Tell the bus that a member is here, with ``info`` as JSON, or not any more (None).
        Returns a ticket for ``wait()``."""

    @abstractmethod
    def wait(self, ticket: int) -> None:
        """Wait until the bus knows what it was told up to the ticket, a few seconds at most."""

    @abstractmethod
    def publish(self, room: str, envelope: Envelope) -> None:
        """Send to the other processes."""

    @abstractmethod
    def append(self, room: str, envelope: Envelope) -> Position:
        """Keep a message and send it to all processes, this one included."""

    @abstractmethod
    def settle(self) -> None:
        """Wait until the messages appended before are delivered here, a few seconds at most."""

    @abstractmethod
    def read(self, room: str, after: Position | None, limit: int, *, begin: bool = False) -> Missed:
        """Return the first ``limit`` messages after ``after``; without it, the last ones.

        If they are large, it returns fewer of them: read on after the last one. With ``begin``, a
        room without messages gets a position too. ``NOTHING`` is before every message.
        """

    def syncs(self, room: str) -> int:
        """Return a number that changes when the bus begins to deliver the room's messages here."""
        return 0

    def unless_synced(self, room: str, syncs: int, call: Callable[[], bool]) -> bool:
        """Return the result of ``call()``, or False, without the call, if ``syncs()`` changed."""
        return call()

    @abstractmethod
    def count(self, room: str, here: int) -> int:
        """Return the number of members in all processes, ``here`` of them in this one."""

    @abstractmethod
    def present(self, room: str) -> Present:
        """Return the members with a name, in all processes."""

    @abstractmethod
    def close(self) -> None:
        """End threads and connections."""


class MemoryBus(Bus):
    def __init__(self, arrived: Arrived, history: History | None, grace: float) -> None:
        self._arrived = arrived
        self._history = history
        self._grace = grace
        self.begin()

    def begin(self) -> None:
        self._closed = False
        self._log = MemoryLog(self._history) if self._history is not None else None
        # Guards the below.
        self._lock = threading.Lock()
        # By room and member: its information, and the moment (monotonic) up to which it counts
        # after it has left, or None while it is here. It is removed when the room is next read.
        self._present: dict[str, dict[str, tuple[str, float | None]]] = {}
        # Up to when members that have left count, and their rooms, in order.
        self._leaving: deque[tuple[float, str]] = deque()

    def set_count(self, room: str, count: int) -> int:
        return 0

    def set_present(self, room: str, member: str, info: str | None) -> int:
        with self._lock:
            members = self._present.setdefault(room, {})
            if info is not None:
                members[member] = (info, None)
            elif member in members:
                until = monotonic() + self._grace
                members[member] = (members[member][0], until)
                self._leaving.append((until, room))
            # Otherwise a room that nobody reads would be kept for ever.
            while self._leaving and self._leaving[0][0] <= monotonic():
                self._forget(self._leaving.popleft()[1])
        return 0

    def _forget(self, room: str) -> dict[str, tuple[str, float | None]]:
        now = monotonic()
        members = self._present.get(room, {})
        for member, (_, until) in list(members.items()):
            if until is not None and until <= now:
                del members[member]
        if not members:
            self._present.pop(room, None)
        return members

    def wait(self, ticket: int) -> None:
        """Do nothing: there is no server."""

    def publish(self, room: str, envelope: Envelope) -> None:
        """Only checks that the hub is open: there are no other processes."""
        self._check_open()

    def append(self, room: str, envelope: Envelope) -> Position:
        self._check_open()
        assert self._log is not None
        return self._log.append(
            room, envelope, lambda position: self._arrived(room, envelope, position)
        )

    def settle(self) -> None:
        """Do nothing: append() has delivered its message."""

    def read(self, room: str, after: Position | None, limit: int, *, begin: bool = False) -> Missed:
        self._check_open()
        assert self._log is not None
        return self._log.read(room, after, limit)

    def count(self, room: str, here: int) -> int:
        self._check_open()
        return here

    def present(self, room: str) -> Present:
        self._check_open()
        with self._lock:
            members = dict(self._forget(room))
        now = monotonic()
        ends = [until - now for _, until in members.values() if until is not None]
        found = {member: json.loads(info) for member, (info, _) in members.items()}
        return Present(found, max(0.0, min(ends)) if ends else None)

    def close(self) -> None:
        self._closed = True

    @property
    def connected(self) -> bool:  # type: ignore[override]  # the base class has a constant
        return not self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise MisuseError("the hub is closed")
