"""The sessions in the rooms of this process, and how a message gets to them.

Nothing here waits for a peer. Messages that a member's connection does not take at once wait in a
queue of the member. The hub's option ``on_full`` says what happens if that is full.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque
from typing import Literal

from ..close import CloseCode, CloseReason
from ..protocol.prepared import PreparedMessage
from ..session.raw import RawSession
from ..session.session import Session
from .wire import TOKEN, Position

__all__ = ["Member", "OnFull", "Rooms", "check_session", "token_of"]

OnFull = Literal["disconnect", "drop_oldest", "drop_newest"]

_TOO_SLOW = CloseReason(CloseCode.TRY_AGAIN_LATER, "reads too slowly", "send_timeout")

_tokens: weakref.WeakKeyDictionary[Session, bytes] = weakref.WeakKeyDictionary()
_tokens_lock = threading.Lock()


def _begin_in_child() -> None:
    """After a fork: another thread of the parent may have held the lock."""
    global _tokens_lock
    _tokens_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_in_child)


def token_of(session: Session) -> bytes:
    """Return the name of a session, by which all processes know it."""
    with _tokens_lock:
        token = _tokens.get(session)
        if token is None:
            token = _tokens[session] = os.urandom(TOKEN)
        return token


def check_session(rule: str, session: object) -> None:
    """Raise ``TypeError`` with the rule if ``session`` is not a ``Session``."""
    if isinstance(session, RawSession):
        raise TypeError(
            f"{rule}, not a raw one: a hub sends messages, and a raw session has frames; leave "
            "raw=True out, or send the frames yourself"
        )
    if not isinstance(session, Session):
        raise TypeError(f"{rule}, not {session!r}")


class Member:
    """A session in one room.

    A member is first *absent*: it gets no message. While it is *replaying*, its ``join()`` sends
    the messages that it has missed, and new messages are held back. Then it is *live*, and
    ``join()`` returns.
    """

    __slots__ = (
        "_has",
        "_held",
        "_lock",
        "_overflowed",
        "_rooms",
        "joins",
        "live",
        "session",
        "token",
        "writer",
    )

    def __init__(self, session: Session, rooms: Rooms) -> None:
        self.session = session
        # The object, not its method: for each message that would be one more object to touch.
        self.writer = session._writer
        self.token = token_of(session)
        #: How many times the session has joined the room. Guarded by the rooms' lock.
        self.joins = 0
        self.live = False
        #: The member has the messages up to here, or does not want them.
        self._has: Position | None = None
        self._rooms = rooms
        # Guards the change to live, and the two attributes below.
        self._lock = threading.Lock()
        # None while the member is absent, and when it is live.
        self._held: deque[tuple[PreparedMessage, Position | None]] | None = None
        # Whether there was no room to hold back a message. The log has it.
        self._overflowed = False

    @property
    def absent(self) -> bool:
        """Whether the member gets no messages yet."""
        return not self.live and self._held is None

    def takes(self, message: PreparedMessage, position: Position | None) -> bool:
        """Whether a message is to be sent to the member now. While it is not live, hold it back."""
        if not self.live:
            with self._lock:
                if not self.live:
                    self._hold(message, position)
                    return False
        return position is None or self._has is None or not self._has.covers(position)

    def _hold(self, message: PreparedMessage, position: Position | None) -> None:
        if self._held is None:
            return
        if len(self._held) < self._rooms.queue:
            self._held.append((message, position))
        else:
            self._overflowed = True

    def hold(self) -> None:
        """Hold back new messages from now on: ``join()`` is about to read what was missed."""
        with self._lock:
            if not self.live:
                self._held, self._overflowed = deque(), False

    def go_live(self, has: Position | None = None, *, force: bool = False) -> bool:
        """Send the messages that were held back and come after ``has``. From now on, send every
        message.

        If there was no room to hold back all of them, throw them away and return False: read the
        log again then. With ``force`` the member goes live nevertheless.
        """
        with self._lock:
            if self.live:
                return True
            if self._overflowed and not force:
                self._held, self._overflowed = deque(), False
                return False
            for message, position in self._held or ():
                if position is None or has is None or not has.covers(position):
                    self._rooms.offer(self, message)
            self._held, self._has, self.live = None, has, True
            return True

    def floor(self, tail: Position) -> Position | None:
        """Return the position up to which a live member has messages, or None if it wants none
        before ``tail``.

        It is for members that went live before the bus began to deliver, and may have missed
        messages since.
        """
        with self._lock:
            if not self.live:
                return None
            if self._has is None:
                self._has = tail
            return self._has


class Rooms:
    """The members in this process. Any thread may call every method."""

    def __init__(self, queue: int, on_full: OnFull) -> None:
        self.queue = queue
        self._on_full = on_full
        # Guards the attributes below.
        self.lock = threading.Lock()
        # The members of each room, by token. An inner dict is replaced, never changed: deliver()
        # goes through it without the lock.
        self._rooms: dict[str, dict[bytes, Member]] = {}
        self._dropped: Counter[str] = Counter()

    def add(self, room: str, session: Session) -> Member:
        """Count one more join of ``session`` in ``room``. Requires ``lock``."""
        assert self.lock.locked()
        members = self._rooms.get(room, {})
        member = members.get(token_of(session))
        if member is None:
            member = Member(session, self)
            self._rooms[room] = {**members, member.token: member}
        member.joins += 1
        return member

    def remove(self, room: str, session: Session) -> None:
        """Count one join less, and remove the member at the last one. Requires ``lock``."""
        assert self.lock.locked()
        member = self._rooms[room][token_of(session)]
        member.joins -= 1
        if not member.joins:
            members = dict(self._rooms[room])
            del members[member.token]
            if members:
                self._rooms[room] = members
            else:
                del self._rooms[room]

    def count(self, room: str) -> int:
        return len(self._rooms.get(room, ()))

    @property
    def total(self) -> int:
        """How many members all rooms have together."""
        with self.lock:
            return sum(map(len, self._rooms.values()))

    def members(self, room: str) -> list[Session]:
        return [member.session for member in self._rooms.get(room, {}).values()]

    def deliver(
        self,
        room: str,
        message: PreparedMessage,
        position: Position | None,
        without: frozenset[bytes],
    ) -> None:
        """Send a message to the members, except those with these tokens."""
        # The loop touches as few objects as it can. Each write to a socket drives the objects of
        # the next member out of the processor's fastest cache, and with hundreds of members,
        # fetching them costs more than what is done with them.
        queue = self.queue
        unkept = position is None
        members = self._rooms.get(room, {})
        skipped = {members[token] for token in without if token in members}
        for member in members.values():
            if skipped and member in skipped:
                continue
            if ((unkept and member.live) or member.takes(message, position)) and (
                not member.writer.offer(message, queue)
            ):
                self._make_room(member, message)

    def tokens(self, room: str) -> frozenset[bytes]:
        """Return the tokens of the members that get messages now."""
        members = self._rooms.get(room, {}).values()
        return frozenset(member.token for member in members if not member.absent)

    def floors(self, room: str, tail: Position) -> list[Position]:
        """Return the positions up to which the live members have messages."""
        floors = [member.floor(tail) for member in self._rooms.get(room, {}).values()]
        return [floor for floor in floors if floor is not None]

    def close(self, room: str, reason: CloseReason, exclude: bytes) -> None:
        """Close the sessions that are members now, except the one with that token."""
        for member in self._rooms.get(room, {}).values():
            if not member.absent and member.token != exclude:
                member.session._start_closing(reason)

    def offer(self, member: Member, message: PreparedMessage) -> None:
        if not member.writer.offer(message, self.queue):
            self._make_room(member, message)

    def _make_room(self, member: Member, message: PreparedMessage) -> None:
        """The session's queue is full: do what the hub's policy says."""
        dropped = 1
        if self._on_full == "drop_oldest":
            # Meanwhile the session takes messages out of the queue, and other threads put some in.
            dropped = member.writer.forget_offers(1)
            while not member.writer.offer(message, self.queue):
                dropped += member.writer.forget_offers(1)
        self.too_slow(member.session, dropped)

    def too_slow(self, session: Session, dropped: int = 1) -> None:
        """Count the dropped messages. With ``"disconnect"`` close the session."""
        if self._on_full == "disconnect":
            session._writer.forget_offers(self.queue)
            session._start_closing(_TOO_SLOW)
        with self.lock:
            self._dropped[self._on_full] += dropped

    @property
    def dropped(self) -> dict[str, int]:
        with self.lock:
            return {kind: number for kind, number in self._dropped.items() if number}
