"""Joining a room and leaving it. The messages that a member has missed come before the new ones.

A join goes through these steps:

1. The session becomes a member of the room, but an absent one: it gets no messages yet.
2. The bus is told. When it has answered, everything that is published reaches this process.
3. New messages are held back. The messages that were missed are read from the log and sent.
4. The messages that were held back are sent, without those that the log had already. The member
   is live.
"""

from __future__ import annotations

import functools
import json
import threading
import weakref
from types import TracebackType
from typing import Any

from ..errors import HubError
from ..session.session import Session
from ..system.logs import logger
from .bus import Bus
from .history import History, to_message
from .members import Member, Rooms
from .presence import Watcher
from .wire import NOTHING, Position

__all__ = ["Joined", "Memberships"]

#: Messages that ``join()`` reads at once.
BATCH = 100
#: How many queues full of messages a member may get while it catches up with a busy room.
AHEAD = 20


class Joined:
    """A session's membership of a room, made by :meth:`Hub.join`.

    It ends with ``leave()``, at the end of the ``with`` block, or with the session. Any thread
    may call every method.
    """

    def __init__(
        self, memberships: Memberships, room: str, session: Session, member: str | None
    ) -> None:
        self.room = room
        self.session = session
        #: The member's name, or None.
        self.member = member
        #: Whether messages are missing that were sent after ``after``, or while this member was
        #: in the room. Then the history no longer kept all of them, or the bus has lost some.
        self.gap = False
        #: The id of the room's newest message at the join, or the id of the room's beginning if it
        #: has no message. A client that has got no message comes back with this id. It is None
        #: without a history, and if the bus could not be read.
        self.last_id: str | None = None
        self._memberships = memberships
        # The information of a named member, as JSON.
        self._info = "null"

    def leave(self) -> None:
        """Leave the room. Does not wait, and does nothing the second time."""
        self._memberships.leave(self)

    def __enter__(self) -> Joined:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()


class Memberships:
    """Any thread may call every method."""

    def __init__(
        self,
        rooms: Rooms,
        bus: Bus,
        watcher: Watcher,
        *,
        history: History | None,
        raises: bool,
    ) -> None:
        self._rooms = rooms
        self._bus = bus
        self._watcher = watcher
        self._history = history
        self._raises = raises
        # Guards the attributes below, and the order in which the bus is told of changes. Taken
        # before the rooms' lock.
        self._lock = threading.Lock()
        # A session stays here until it ends, even if it is in no room. So it has one callback,
        # however often it joins and leaves.
        self._joined: dict[Session, set[Joined]] = {}
        # The named members of each room here, and for each of their joins the information as JSON.
        self._named: dict[str, dict[str, list[str]]] = {}

    def join(self, joined: Joined, info: str, after: str | None) -> Joined:
        """Carry out a join. If it raises, the session has left again."""
        member, ticket = self._add(joined, info)
        try:
            self._bus.wait(ticket)
            if joined.member is not None:
                self._watcher.watch(joined.room)
                self._watcher.look(joined.room)
            if self._history is None or member.live:
                member.go_live()
            else:
                self._replay(joined, member, after)
        except BaseException:
            self.leave(joined)
            raise
        return joined

    def _add(self, joined: Joined, info: str) -> tuple[Member, int]:
        room, session = joined.room, joined.session
        with self._lock:
            with self._rooms.lock:
                member = self._rooms.add(room, session)
                count = self._rooms.count(room)
            try:
                ticket = self._bus.set_count(room, count)
            except BaseException:
                with self._rooms.lock:
                    self._rooms.remove(room, session)
                raise
            if joined.member is not None:
                infos = self._named.setdefault(room, {}).setdefault(joined.member, [])
                infos.append(info)
                joined._info = info
                ticket = self._bus.set_present(room, joined.member, info)
            known = session in self._joined
            self._joined.setdefault(session, set()).add(joined)
        if not known:
            ours, ended = weakref.ref(self), weakref.ref(session)
            session.close_reason.add_done_callback(lambda _: _session_ended(ours, ended))
        return member, ticket

    def leave(self, joined: Joined) -> None:
        """Carry out a leave. Does nothing the second time."""
        room, session, name = joined.room, joined.session, joined.member
        with self._lock:
            if joined not in self._joined.get(session, ()):
                return
            self._joined[session].discard(joined)
            with self._rooms.lock:
                self._rooms.remove(room, session)
                count = self._rooms.count(room)
            self._bus.set_count(room, count)
            if name is not None:
                infos = self._named[room][name]
                shown = infos[-1]
                infos.remove(joined._info)
                if not infos:
                    del self._named[room][name]
                    if not self._named[room]:
                        del self._named[room]
                    self._bus.set_present(room, name, None)
                elif infos[-1] != shown:
                    self._bus.set_present(room, name, infos[-1])
        if count:
            self._watcher.look(room)
        else:
            self._watcher.forget(room)

    def _ended(self, session: Session) -> None:
        while True:
            with self._lock:
                memberships = list(self._joined[session])
                if not memberships:
                    del self._joined[session]
                    return
            for joined in memberships:
                self.leave(joined)

    def _replay(self, joined: Joined, member: Member, after: str | None) -> None:
        """Send the missed messages, then go live: none is lost, doubled or out of order."""
        position = Position.parse(after)
        joined.gap = after is not None and position is None
        member.hold()
        end: int | None = None
        while True:
            syncs = self._bus.syncs(joined.room)
            try:
                missed = self._bus.read(joined.room, position, BATCH if position else 0, begin=True)
            except HubError as exc:
                if self._raises:
                    raise
                logger.info("what was missed in %r can not be read: %s", joined.room, exc)
                joined.gap = joined.gap or after is not None
                member.go_live(position, force=True)
                return
            joined.gap = joined.gap or missed.gap
            joined.last_id = missed.last.id if missed.last is not None else None
            for each, envelope in missed.messages:
                message = to_message(envelope, each, self._history)
                if message is not None and envelope.exclude != member.token:
                    joined.session.send(message)
            if position is None or not missed.messages:
                position = missed.last
            else:
                position = missed.messages[-1][0]
            if missed.last is None or position == missed.last:
                position = position or NOTHING
                go_live = functools.partial(member.go_live, position)
                if self._bus.unless_synced(joined.room, syncs, go_live):
                    return
            assert position is not None
            if end is None:
                end = position.number if missed.last is None else missed.last.number
                end += AHEAD * self._rooms.queue
            if position.number > end:
                # The room goes on faster than the member reads.
                joined.gap = True
                member.go_live(position, force=True)
                self._rooms.too_slow(joined.session)
                return

    def present(self, room: str) -> dict[str, Any]:
        """Return the named members in this process, with their information."""
        with self._lock:
            named = self._named.get(room, {})
            return {name: json.loads(infos[-1]) for name, infos in named.items()}

    def set_gap(self, room: str) -> None:
        """Note that messages of a room were lost on the way to this process."""
        with self._lock:
            for memberships in self._joined.values():
                for joined in memberships:
                    if joined.room == room:
                        joined.gap = True


def _session_ended(memberships: weakref.ref[Memberships], session: weakref.ref[Session]) -> None:
    left, ended = memberships(), session()
    if left is not None and ended is not None:
        left._ended(ended)
