"""The bus over Redis or Valkey: publish-subscribe, streams and hashes.

Commands run in the thread that calls, with a deadline, and at most once. ``redis_listener`` has
the thread that listens. If Redis refuses one kind of command, because its memory is full or the
user has no permission, the bus goes on with the others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import redis
from redis.exceptions import ClusterDownError, ResponseError

from ..errors import HubError
from ..system.logs import logger
from . import wire
from .bus import Arrived, Bus, MisuseError, Present, RefusedError
from .history import History, Missed
from .redis_commands import FAILURES, TIMEOUT, Commands
from .redis_listener import Listener
from .redis_log import Log
from .redis_scripts import APPEND, COUNT, PRESENT
from .wire import NOTHING, Envelope, Position

__all__ = ["RedisBus"]

Result = TypeVar("Result")

#: How many messages are read at once if some were missed.
BATCH = 100
#: Seconds for which no command is sent to a Redis that has not answered in time. Otherwise one
#: thread after the other would wait for it.
PAUSE = 1.0


class _PausedError(HubError):
    """The command was not sent, because Redis has just failed to answer another one."""


class RedisBus(Bus):
    """Any thread may call every method. ``arrived`` and ``gap`` run in the listener's thread."""

    shared = True

    def __init__(
        self,
        client: Any,
        prefix: str,
        arrived: Arrived,
        gap: Callable[[str], None],
        floors: Callable[[str, Position], list[Position]],
        history: History | None,
        grace: float,
        *,
        owned: bool,
    ) -> None:
        self._commands = Commands(client, prefix)
        self._arrived = arrived
        self._gap = gap
        self._floors = floors
        self._history = history
        self._log = None if history is None else Log(self._commands, history)
        self._grace = grace
        # Whether the client is the hub's own, to be closed with it.
        self._owned = owned
        self.begin()

    def begin(self) -> None:
        self.process = os.urandom(wire.SENDER)
        self.gaps = 0
        self._closed = False
        self._listener = Listener(self._commands, self.process, self._grace, self)
        # Guards the attributes below.
        self._lock = threading.Lock()
        # The parts that can not reach Redis: "commands", "listener".
        self._away: set[str] = set()
        # No command is sent before this moment (monotonic). 0 while Redis answers.
        self._pause_until = 0.0
        # Whether Redis was ever reached.
        self._reached = False
        # How many messages were kept, and how many of them are known to have been delivered here.
        self._kept = self._settled = 0
        # The kinds of commands that Redis has refused, which are logged once.
        self._refused: set[str] = set()
        # The position up to which each room's messages have been delivered. Only the listener's
        # thread uses it.
        self._delivered: dict[str, Position] = {}
        # Guards the attributes below, and is held while a member goes live.
        self._sync_lock = threading.Lock()
        self._syncs: dict[str, int] = {}
        self._synced = 0
        self._looked_for_old = self._warned_of_version = False

    # Membership

    def set_count(self, room: str, count: int) -> int:
        return self._listener.set_count(room, count)

    def set_present(self, room: str, member: str, info: str | None) -> int:
        return self._listener.set_present(room, member, info)

    def wait(self, ticket: int) -> None:
        self._listener.wait(ticket)

    # Commands

    def publish(self, room: str, envelope: Envelope) -> None:
        data = wire.publication(envelope.encode())
        channel = self._commands.channel(room)
        self._call(
            "publish",
            lambda: self._commands.once(channel, self._commands.publish_command(), channel, data),
        )

    def append(self, room: str, envelope: Envelope) -> Position:
        assert self._history is not None
        assert self._log is not None
        keys, kept = self._log.keys(room), self._log.position_kept
        arguments = (
            os.urandom(4).hex(),
            envelope.encode(),
            self._history.messages,
            self._history.milliseconds,
            self._commands.channel(room),
        )

        def keep() -> Any:
            publish = self._commands.publish_command()
            return self._commands.run_once(APPEND, keys, *arguments, publish, kept)

        try:
            epoch, number, time = self._call("keep messages", keep)
        except (RefusedError, MisuseError, _PausedError):
            raise
        except HubError as exc:
            with self._lock:
                if isinstance(exc.__cause__, redis.TimeoutError):
                    self._settled = self._kept  # from a Redis that hangs nothing is delivered
                else:
                    self._kept += 1  # only the answer may have been lost
            raise
        with self._lock:
            self._kept += 1
        return Position(epoch.decode(), number, time)

    def settle(self) -> None:
        with self._lock:
            kept = self._kept
            if kept <= self._settled:
                return
        self._listener.wait(self._listener.barrier())
        with self._lock:
            self._settled = max(self._settled, kept)

    def read(self, room: str, after: Position | None, limit: int, *, begin: bool = False) -> Missed:
        log = self._log
        assert log is not None
        return self._call("read the history", lambda: log.read(room, after, limit, begin=begin))

    def count(self, room: str, here: int) -> int:
        keys = [self._commands.key(room, b"counts")]
        others = self._call(
            "count members", lambda: self._commands.run(COUNT, keys, self.process.hex())
        )
        return here + int(others)

    def present(self, room: str) -> Present:
        keys = [self._commands.key(room, b"members"), self._commands.key(room, b"counts")]
        changes, known, *pairs = self._call(
            "list members", lambda: self._commands.run(PRESENT, keys, self.process.hex())
        )
        members = {
            name.decode(errors="replace"): wire.from_json(info)
            for name, info in zip(pairs[::2], pairs[1::2], strict=True)
        }
        complete = bool(known) and self._listener.complete(room)  # in this order
        return Present(members, None if changes < 0 else changes / 1000, complete)

    def _call(self, what: str, command: Callable[[], Result]) -> Result:
        if self._closed:
            raise MisuseError("the hub is closed")
        with self._lock:
            now = monotonic()
            if self._pause_until:
                if now < self._pause_until:
                    raise _PausedError("the bus has not answered in time a moment ago")
                self._pause_until = now + TIMEOUT + PAUSE  # one thread tries, for all
        try:
            result = command()
        except ResponseError as exc:
            if isinstance(exc, ClusterDownError):
                self._failed(exc)
                raise HubError(f"the bus can not be reached ({exc})") from exc
            self._worked("commands")
            self.refused(what, exc)
            raise RefusedError(f"the bus has refused ({exc})") from exc
        except FAILURES as exc:
            self._failed(exc)
            raise HubError(f"the bus can not be reached ({exc})") from exc
        self._worked("commands")
        return result

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._pause_until = monotonic() + PAUSE if isinstance(error, redis.TimeoutError) else 0
        self._lose("commands", error)
        self._listener.check()

    def _lose(self, what: str, error: Exception) -> None:
        with self._lock:
            first = not self._away
            self._away.add(what)
            before = self._reached
        # As text: a handler that keeps log records must not keep the error's frames and sockets.
        if first and before:
            logger.warning("the hub has lost its bus, and connects again: %s", str(error))
        elif first:
            logger.warning("the hub can not reach its bus, and tries again: %s", str(error))

    def _worked(self, what: str) -> None:
        with self._lock:
            self._pause_until = 0.0
            self._reached = True
            if what not in self._away:
                return
            self._away.discard(what)
            back = not self._away
        if back:
            logger.info("the hub has its bus again")

    @property
    def connected(self) -> bool:  # type: ignore[override]  # the base class has a constant
        return not self._away and not self._closed

    def close(self) -> None:
        self._closed = True
        self._listener.close()
        if self._owned:
            self._commands.client.close()

    # The listener calls these

    def lost(self, error: Exception, *, gap: bool) -> None:
        """Note that a connection that listens was lost, or could not be made."""
        self._lose("listener", error)  # first, so that ``connected`` is false when a gap counts
        self.gaps += gap

    def reached(self) -> None:
        """Note that Redis carries out commands."""
        self._worked("commands")

    def connected_again(self) -> None:
        """Note that the listener has its connections."""
        self._worked("listener")

    def refused(self, what: str, error: Exception) -> None:
        """Log once that Redis refuses one kind of command."""
        if not isinstance(error, ResponseError):
            self._lose("commands", error)
            return
        with self._lock:
            if what in self._refused:
                return
            self._refused.add(what)
        logger.warning(
            "Redis refuses to %s, and the hub goes on without that: %s (logged once)", what, error
        )

    def unsubscribed(self, room: str) -> None:
        self._delivered.pop(room, None)
        with self._sync_lock:
            self._syncs.pop(room, None)

    def subscribed(self, room: str) -> None:
        """Deliver the messages that came before the room was subscribed to."""
        if not self._looked_for_old:
            self._looked_for_old = True
            self._look_for_old()
        if self._history is None:
            return
        if room in self._delivered:
            self._catch_up(room)
        else:
            self._begin_delivering(room)

    def _begin_delivering(self, room: str) -> None:
        """Find where to begin. Members that joined while Redis was away get what came since."""
        assert self._log is not None
        tail = self._log.read(room, None, 0, begin=True).last or NOTHING
        with self._sync_lock:
            self._synced += 1
            self._syncs[room] = self._synced
            floors = self._floors(room, tail)
        known = [floor for floor in floors if floor == NOTHING or floor.epoch == tail.epoch]
        if len(known) < len(floors):
            self._gap(room)
        self._delivered[room] = min(known, key=lambda floor: floor.number, default=tail)
        if self._delivered[room] != tail:
            self._catch_up(room)

    def syncs(self, room: str) -> int:
        with self._sync_lock:
            return self._syncs.get(room, 0)

    def unless_synced(self, room: str, syncs: int, call: Callable[[], bool]) -> bool:
        with self._sync_lock:
            return self._syncs.get(room, 0) == syncs and call()

    def _look_for_old(self) -> None:
        try:
            found = self._commands.old_processes()
        except FAILURES:
            return  # for example, the user has no permission; only the warning is missing
        if found:
            logger.warning(
                "workers with a version of syncws before 0.2 use this Redis: rooms are not shared "
                "between them and this worker; restart them"
            )

    def _catch_up(self, room: str) -> bool:
        """Deliver the missed messages. Returns False if the log no longer has the last one."""
        assert self._log is not None
        delivered, told = self._delivered[room], False
        while True:
            missed = self._log.read(room, delivered, BATCH)
            gap = missed.gap
            if gap and missed.last is not None and missed.last.epoch != delivered.epoch:
                # The Redis has lost the room: its messages are new to all members here.
                missed = self._log.read(room, NOTHING, BATCH)
            if gap and not told:
                told = True
                self._gap(room)  # before the messages that come after the gap
            for position, envelope in missed.messages:
                self._arrived(room, envelope, position)
                delivered = position
            if not missed.messages or delivered == missed.last:
                break
        self._delivered[room] = missed.last or NOTHING
        return missed.last is None or delivered == missed.last

    def received(self, room: str, data: bytes) -> None:
        """Handle data that was published to a room."""
        try:
            publication = wire.parse_publication(data)
        except wire.OtherVersionError as exc:
            if not self._warned_of_version:
                self._warned_of_version = True
                logger.warning(
                    "another worker sends in a format that this version of syncws does not know "
                    "(%s): its messages do not get here; use one version (logged once)",
                    exc,
                )
            return
        if publication is None:
            logger.info("the hub has thrown away data for %r that is not a message", room)
            return
        envelope, position, previous = publication
        if position is None or self._history is None:
            if envelope.sender != self.process or envelope.kind == wire.PRESENCE:
                self._arrived(room, envelope, None)  # others were delivered when they were sent
            return
        delivered = self._delivered.get(room, NOTHING)
        if delivered.covers(position):
            return
        follows = position.number == 1 or (
            position.number == delivered.number + 1
            and position.epoch == delivered.epoch
            and previous == delivered.time
        )
        # If reading was refused, no position is known, and there is nothing to compare with.
        if not follows and room in self._delivered:
            self.gaps += 1
            follows = not self._catch_up(room)
        if follows or room not in self._delivered:
            self._arrived(room, envelope, position)
            self._delivered[room] = position
