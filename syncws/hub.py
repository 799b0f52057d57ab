"""Rooms: one message for all who are in one, in this process and in others.

What is promised: a message that one thread sends to a room after another gets
to each member after it, at most once, and never twice. Nobody gets what was
sent before ``join()``; everybody who stays, and keeps up, gets what is sent
after it has returned. Nothing is kept for those who are away.

A member that reads too slowly never holds up the sender, nor the others.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from .close import CloseCode, CloseReason
from .protocol.prepared import PreparedMessage
from .session.session import Session

if TYPE_CHECKING:
    from .hub_redis import RedisBus
    from .protocol.outbound import Data

__all__ = ["Hub"]

#: Messages that wait for a member, at most, before it is too slow.
QUEUE = 100

OnFull = Literal["disconnect", "drop_oldest", "drop_newest"]

_TOO_SLOW = CloseReason(CloseCode.TRY_AGAIN_LATER, "reads too slowly", "send_timeout")


class Hub:
    """Rooms with members. Every method is for any thread.

    ``url`` is None for the members of this process, or the address of a Redis
    or Valkey (``"redis://localhost:6379/0"``), over which all hubs with the
    same address are one; that needs the extra ``redis``.

    ``queue`` is how many messages may wait for a member that reads slowly, and
    ``on_full`` what happens when it is one more: ``"disconnect"`` closes the
    member's session with 1013 (try again later), ``"drop_oldest"`` and
    ``"drop_newest"`` leave out a message, which ``dropped`` counts.

    A hub may be made before gunicorn forks its workers (``preload_app``): it
    connects when it is first used.
    """

    def __init__(
        self, url: str | None = None, *, queue: int = QUEUE, on_full: OnFull = "disconnect"
    ) -> None:
        if queue < 1:
            raise ValueError(f"queue is at least 1 message, not {queue!r}")
        if on_full not in ("disconnect", "drop_oldest", "drop_newest"):
            raise ValueError(
                f'on_full is "disconnect", "drop_oldest" or "drop_newest", not {on_full!r}'
            )
        self._queue = queue
        self._on_full = on_full
        self._bus: RedisBus | None = None
        self._begin()
        hub = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _begin_anew(hub))
        if url is not None:
            try:
                from .hub_redis import RedisBus
            except ImportError as exc:
                raise ImportError(
                    "a hub over Redis needs redis-py: pip install 'syncws[redis]'"
                ) from exc
            self._bus = RedisBus(url, self._deliver)

    def _begin(self) -> None:
        """In each process anew: its parent's sessions are its parent's."""
        # Guards the two below, and the order of what the bus is told.
        self._lock = threading.Lock()
        # A room's members, how often each has joined. Replaced, never changed:
        # send() goes through them without the lock.
        self._rooms: dict[str, dict[Session, int]] = {}
        self._dropped: Counter[str] = Counter()
        if self._bus is not None:
            self._bus.begin()

    @contextlib.contextmanager
    def join(self, room: str, session: Session) -> Iterator[None]:
        """Make ``session`` a member of ``room`` for the block::

            with hub.join(room, session):
                for message in session:
                    hub.send(room, message, exclude=session)

        A session may be in any number of rooms. One that has ended leaves with
        its block. Raises ``TypeError`` for a raw session, and ``ValueError`` for
        a name that UTF-8 can not express.
        """
        if not isinstance(session, Session):
            raise TypeError(f"a member of a room is a Session, not {session!r}")
        _check_name(room)
        with self._lock:
            members = dict(self._rooms.get(room, {}))
            members[session] = members.get(session, 0) + 1
            self._set_members(room, members)
        try:
            if self._bus is not None:
                self._bus.wait_until_subscribed(room)
            yield
        finally:
            with self._lock:
                members = dict(self._rooms[room])
                members[session] -= 1
                if not members[session]:
                    del members[session]
                self._set_members(room, members)

    def _set_members(self, room: str, members: dict[Session, int]) -> None:
        assert self._lock.locked()
        if members:
            self._rooms[room] = members
        else:
            del self._rooms[room]
        if self._bus is not None:
            self._bus.set_count(room, len(members))

    def send(
        self, room: str, message: Data | PreparedMessage, exclude: Session | None = None
    ) -> None:
        """Send ``message`` to all members of ``room``, except ``exclude``.

        Waits for nobody but the bus, if there is one, and for that a few
        seconds at most. Raises ``HubError`` when the bus can not be reached:
        the members in this process have got the message then, the others have
        not. Raises ``TypeError`` for what is no message, and ``ValueError`` for
        a name that UTF-8 can not express.
        """
        _check_name(room)
        if not isinstance(message, PreparedMessage):
            message = PreparedMessage(message)
        self._deliver(room, message, exclude)
        if self._bus is not None:
            self._bus.publish(room, message.data)

    def _deliver(self, room: str, message: PreparedMessage, exclude: Session | None = None) -> None:
        """To the members in this process."""
        for session in self._rooms.get(room, ()):
            if session is not exclude and not session._offer(message, self._queue):
                self._full(session, message)

    def _full(self, session: Session, message: PreparedMessage) -> None:
        with self._lock:
            self._dropped[self._on_full] += 1
        if self._on_full == "drop_oldest":
            session._forget_offers(1)
            session._offer(message, self._queue)
        elif self._on_full == "disconnect":
            session._forget_offers(self._queue)
            session._start_closing(_TOO_SLOW)

    def members(self, room: str) -> list[Session]:
        """The members of ``room`` in this process."""
        return list(self._rooms.get(room, ()))

    def count(self, room: str) -> int:
        """How many members ``room`` has, in all processes. Those of a process that
        has died are counted for half a minute more.

        Raises ``HubError`` when the bus can not be reached, and ``ValueError``
        for a name that UTF-8 can not express.
        """
        _check_name(room)
        if self._bus is not None:
            return self._bus.count(room)
        return len(self._rooms.get(room, ()))

    @property
    def dropped(self) -> dict[str, int]:
        """How often a member's queue was full, by what was done then."""
        with self._lock:
            return dict(self._dropped)

    @property
    def gaps(self) -> int:
        """How often the connection to the bus was lost, and messages of other
        processes may have been."""
        return self._bus.gaps if self._bus is not None else 0

    def close(self) -> None:
        """Disconnect from the bus. Sessions go on; ``send()`` does not."""
        if self._bus is not None:
            self._bus.close()


def _check_name(room: str) -> None:
    """Peers may have a say in it: JSON has a way to write half a character."""
    if not isinstance(room, str):
        raise TypeError(f"the name of a room is a str, not {room!r}")
    try:
        room.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{room!r} can not be the name of a room: UTF-8 can not express it"
        ) from None


def _begin_anew(hub: weakref.ref[Hub]) -> None:
    made = hub()
    if made is not None:
        made._begin()
