"""Rooms: one message for all members of a room, in this process and in others.

A hub promises this. The messages that one thread sends to a room reach each member in that order,
each at most once. A member gets no message that was sent before ``join()`` was called. A member
that stays, and reads fast enough, gets every message that is sent after ``join()`` has returned.
With a history, a member gets the messages that it has missed, or is told that some are missing.

A member that reads too slowly never holds up the sender or the other members.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from ..close import CloseCode, CloseReason, check_sendable
from ..errors import HubError
from ..options import check_seconds
from ..protocol.json_text import json_text
from ..protocol.prepared import PreparedMessage
from ..session.session import Session
from . import wire
from .bus import Bus, MemoryBus, MisuseError
from .figures import HUBS, Figures
from .history import History, to_message
from .joining import Joined, Memberships
from .members import OnFull, Rooms, check_session, token_of
from .presence import OnPresence, Watcher
from .sending import Courier
from .wire import Envelope, Position

if TYPE_CHECKING:
    from ..protocol.outbound import Data

__all__ = ["Hub"]

#: How many messages may wait for a member. With one more, the member is too slow.
QUEUE = 100
#: Seconds for which a member that has left still counts. So a page that is loaded again, or a
#: worker that is replaced, causes no change. Precedent: Socket.IO's clients are back within 5 s.
PRESENCE_GRACE = 5.0
#: Seconds that ``close()`` waits for a callback of ``on_presence``.
CLOSE_TIMEOUT = 5.0

OnBusLost = Literal["warn", "raise"]


class Hub:
    """Rooms with members. Any thread may call every method.

    ``url`` is None for the sessions of this process, or the address of a Redis or Valkey
    (``"redis://localhost:6379/0"``, ``"rediss://…"``, ``"unix://…"``). All hubs with the same
    address and ``prefix`` are one. An address needs the extra ``redis``. Instead of an address
    you may give a redis-py ``client``, such as ``sentinel.master_for("main")`` or a
    ``RedisCluster``. The hub does not close it.

    ``history`` is a :class:`History`: how many messages of each room are kept, and for how long.
    Without it, none are.

    ``queue`` is how many messages may wait for a member that reads slowly. If there is one more,
    ``on_full`` says what happens: ``"disconnect"`` closes the member's session with 1013 (try
    again later); ``"drop_oldest"`` and ``"drop_newest"`` leave out a message. ``dropped`` counts
    either.

    ``presence_grace`` is for how many seconds a member that has left still counts as present.

    ``on_bus_lost`` says what happens if the bus can not be reached. With ``"warn"`` the hub goes
    on in this process, logs one warning and counts in ``undelivered``. With ``"raise"`` its
    methods raise :class:`HubError`.

    You may make a hub before gunicorn forks its workers (``preload_app``): it connects when it is
    first used. Raises ``TypeError`` or ``ValueError`` for invalid options.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        prefix: str = "",
        history: History | None = None,
        queue: int = QUEUE,
        on_full: OnFull = "disconnect",
        presence_grace: float = PRESENCE_GRACE,
        on_bus_lost: OnBusLost = "warn",
    ) -> None:
        _check_number("queue", queue)
        if on_full not in ("disconnect", "drop_oldest", "drop_newest"):
            raise ValueError(
                f'on_full is "disconnect", "drop_oldest" or "drop_newest", not {on_full!r}'
            )
        if on_bus_lost not in ("warn", "raise"):
            raise ValueError(f'on_bus_lost is "warn" or "raise", not {on_bus_lost!r}')
        if history is not None and not isinstance(history, History):
            raise TypeError(f"history is a syncws.History, not {history!r}")
        if presence_grace != 0:
            check_seconds("presence_grace", presence_grace)
        if url is not None and not isinstance(url, str):
            raise TypeError(f'url is an address, such as "redis://localhost:6379/0", not {url!r}')
        if url is not None and client is not None:
            raise ValueError("a hub has an address or a client, not both")
        _check_name(prefix, "a prefix")
        self._prefix = prefix
        self._queue = queue
        self._on_full: OnFull = on_full
        self._history = history
        self._raises = on_bus_lost == "raise"
        self._bus: Bus
        if url is None and client is None:
            self._bus = MemoryBus(self._arrived, history, presence_grace)
        else:
            self._bus = self._redis_bus(url, client, prefix, presence_grace)
        self._watcher = Watcher(self._bus.present)
        self._begin()
        HUBS.add(self)

    def _redis_bus(self, url: str | None, client: Any, prefix: str, grace: float) -> Bus:
        try:
            from .redis_bus import RedisBus
            from .redis_commands import client_for
        except ImportError as exc:
            raise ImportError(
                "a hub over Redis needs redis-py: pip install 'syncws[redis]'"
            ) from exc
        if url is not None:
            client = client_for(url)
        owned = url is not None
        calls = (self._arrived, self._lost, self._floors)
        return RedisBus(client, prefix, *calls, self._history, grace, owned=owned)

    def _begin(self) -> None:
        """Begin anew, in each process: the sessions of a parent are not those of its child."""
        self._rooms = Rooms(self._queue, self._on_full)
        self._memberships = Memberships(
            self._rooms, self._bus, self._watcher, history=self._history, raises=self._raises
        )
        self._courier = Courier(
            self._rooms, self._bus, self._watcher, history=self._history, raises=self._raises
        )

    def _after_fork(self) -> None:
        self._begin()
        self._bus.begin()
        self._watcher.begin()

    # Membership

    def join(
        self,
        room: str,
        session: Session,
        *,
        after: str | None = None,
        member: str | int | None = None,
        info: Any = None,
    ) -> Joined:
        """Make ``session`` a member of ``room``, until it leaves or ends::

            with hub.join(room, session):
                for message in session:
                    hub.send(room, message, exclude=session)

        A session may be in any number of rooms. The call waits for the bus, for a few seconds at
        most.

        ``after`` is the id of the last message that the client has. The session first gets the
        messages that were sent since then, and after them the new ones. ``joined.gap`` is true if
        some are missing. Give None or ``""`` for a client that has no message. A text that is not
        the id of a message, such as one that a peer has made up, is a gap.

        ``member`` is a name under which ``presence()`` lists the session, with ``info``. ``info``
        is anything that JSON can express.

        Raises ``TypeError`` for a raw session, and for an ``info`` that JSON can not express.
        Raises ``ValueError`` for a name that UTF-8 can not express, and for ``after`` without a
        history. Raises ``RuntimeError`` if the system has no thread left. While it sends the
        messages that were missed, it raises what ``session.send()`` raises.
        """
        check_session("a member of a room is a Session", session)
        _check_name(room)
        if after and self._history is None:
            raise ValueError("after= needs a history: Hub(history=syncws.History())")
        name = None if member is None else str(member)
        if name is not None:
            _check_name(name, "a member")
        text = json.dumps(info)
        joined = Joined(self._memberships, room, session, name)
        if name is not None:
            self._watcher.watch(room)
        return self._memberships.join(joined, text, after or None)

    # Messages

    def send(
        self, room: str, message: Data | PreparedMessage, exclude: Session | None = None
    ) -> str | None:
        """Send ``message`` to all members of ``room``, except ``exclude``.

        Returns the message's id if the hub has a history and the message is kept, else None.

        The call waits for no member. It waits for the bus, if there is one, for a few seconds at
        most. If the bus can not be reached, only the members in this process get the message:
        ``on_bus_lost`` says whether that is counted or raises ``HubError``. ``HubError`` is also
        raised for a message of more than 16 MiB over a bus, and after ``close()``.
        Raises ``TypeError`` for a message of another type, and for an ``exclude`` that is not a
        :class:`Session`. Raises ``ValueError`` for a name that UTF-8 can not express.
        """
        _check_name(room)
        if not isinstance(message, PreparedMessage):
            message = PreparedMessage(message)
        return self._courier.send(room, message, _excluded(exclude))

    def send_json(self, room: str, value: Any, exclude: Session | None = None) -> str | None:
        """Send ``value`` as a text message of JSON. With a history, the id of the message stands
        in a JSON object under ``History.key``. Raises what ``send()`` and ``json.dumps()`` raise.
        """
        return self.send(room, json_text(value), exclude)

    def disconnect(
        self,
        room: str,
        code: int = CloseCode.POLICY_VIOLATION,
        reason: str = "",
        exclude: Session | None = None,
    ) -> None:
        """Close the sessions that are members of ``room`` now, in all processes, except
        ``exclude``. They first get the messages that you have sent before.

        The call waits as ``send()`` does, and raises ``HubError`` as it does. Raises ``TypeError``
        or ``ValueError`` for a code or a reason that can not be sent (RFC 6455 section 7.4).
        """
        _check_name(room)
        check_sendable(code, reason)
        self._courier.disconnect(room, CloseReason(code, reason), _excluded(exclude))

    def history(
        self, room: str, *, after: str | None = None, limit: int = 100
    ) -> list[str | bytes]:
        """Return the messages that are kept, in order, as members got them.

        Without ``after`` these are the last ``limit`` messages. If ``after`` is the id of a
        message, they are the first ``limit`` messages after it. If the message of this id is not
        known any more, they are the last ``limit`` messages again.

        If the bus can not be reached, the list is empty with ``on_bus_lost="warn"``, and
        ``HubError`` is raised with ``"raise"``. Raises ``ValueError`` without a history, and for
        a ``limit`` below 1.
        """
        _check_name(room)
        if self._history is None:
            raise ValueError("history() needs one: Hub(history=syncws.History())")
        _check_number("limit", limit)
        position = Position.parse(after)
        try:
            missed = self._bus.read(room, position, limit)
            if position is not None and missed.gap and not missed.messages:
                missed = self._bus.read(room, None, limit)
            found = missed.messages
            while missed.messages and len(found) < limit and found[-1][0] != missed.last:
                missed = self._bus.read(room, found[-1][0], limit - len(found))
                found += missed.messages
        except HubError as exc:
            self._raise_unless_warned(exc)
            return []
        messages = (to_message(each, position, self._history) for position, each in found)
        return [message.data for message in messages if message is not None]

    # The threads of the bus call these

    def _arrived(self, room: str, envelope: Envelope, position: Position | None) -> None:
        self._courier.arrived(room, envelope, position)

    def _lost(self, room: str) -> None:
        self._memberships.set_gap(room)

    def _floors(self, room: str, tail: Position) -> list[Position]:
        return self._rooms.floors(room, tail)

    # Members

    def members(self, room: str) -> list[Session]:
        """Return the members of ``room`` in this process."""
        return self._rooms.members(room)

    def count(self, room: str) -> int:
        """Return how many members ``room`` has, in all processes. The members of a process that
        was killed are counted for up to 30 seconds more.

        If the bus can not be reached, the members in this process are counted with
        ``on_bus_lost="warn"``, and ``HubError`` is raised with ``"raise"``. Raises
        ``ValueError`` for a name that UTF-8 can not express.
        """
        _check_name(room)
        here = self._rooms.count(room)
        try:
            return self._bus.count(room, here)
        except HubError as exc:
            self._raise_unless_warned(exc)
            return here

    def presence(self, room: str) -> dict[str, Any]:
        """Return the members of ``room`` that have joined with ``member=``, in all processes: a
        dict of their names and infos. A member that has left stays listed for ``presence_grace``
        seconds.

        If the bus can not be reached, the members in this process are listed with
        ``on_bus_lost="warn"``, and ``HubError`` is raised with ``"raise"``. Raises ``ValueError``
        for a name that UTF-8 can not express.
        """
        _check_name(room)
        try:
            present = self._bus.present(room)
        except HubError as exc:
            self._raise_unless_warned(exc)
            return self._memberships.present(room)
        if present.complete:
            return present.members
        return {**self._memberships.present(room), **present.members}

    def on_presence(self, callback: OnPresence) -> OnPresence:
        """Call ``callback(room, joined, left)`` when members with a name come or go; a decorator.

        ``joined`` and ``left`` are dicts of names and infos. The callback is called in each
        process that has members in the room, in a thread of the hub, one call at a time. Two
        sessions of one member are one member. If the callback raises, the error is logged.
        Raises ``TypeError`` if ``callback`` can not be called.
        """
        if not callable(callback):
            raise TypeError(f"on_presence takes a function of room, joined, left, not {callback!r}")
        self._watcher.callbacks.append(callback)
        return callback

    def _raise_unless_warned(self, error: HubError) -> None:
        if self._raises or isinstance(error, MisuseError):
            raise error

    # The hub itself

    @property
    def connected(self) -> bool:
        """Whether the bus was reached when it was last needed. Without a bus, True until the hub
        is closed."""
        return self._bus.connected

    @property
    def dropped(self) -> dict[str, int]:
        """How many messages found a member's queue full, as a dict with the values of
        ``on_full`` as keys. With ``"disconnect"``, it is the number of members."""
        return self._rooms.dropped

    @property
    def undelivered(self) -> int:
        """How many messages went only to the members in this process, because the bus could not
        be reached."""
        return self._courier.undelivered

    @property
    def gaps(self) -> int:
        """How often the connection to the bus was lost. Messages of other processes may have been
        lost with it."""
        return self._bus.gaps

    def _figures(self) -> Figures:
        return Figures(self._rooms.total, self.dropped, self.undelivered, self.gaps)

    def close(self) -> None:
        """Disconnect from the bus. Sessions go on. Methods that send or ask the bus raise
        ``HubError`` from now on."""
        self._watcher.close(CLOSE_TIMEOUT)
        self._bus.close()


def _check_number(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number of messages, such as 100, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} is at least 1 message, not {value!r}")


def _excluded(session: Session | None) -> bytes:
    if session is None:
        return wire.NOBODY
    check_session("exclude is a Session, or None", session)
    return token_of(session)


def _check_name(name: str, what: str = "a room") -> None:
    """Check a name, which may come from a peer: JSON can express half of a character."""
    if not isinstance(name, str):
        raise TypeError(f"the name of {what} is a str, not {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{name!r} can not be the name of {what}: UTF-8 can not express it"
        ) from None
