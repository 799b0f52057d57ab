"""The thread that listens to Redis, and tells it which members are in this process.

It starts with the first member, so a process that only sends has no such thread. If it loses a
connection, it connects and subscribes again, and logs that once.

Joins wait for it in this way. Each change has a number, the *ticket*. The thread subscribes, and
then sends a ping with the number on the same connection. When the answer has come, the subscription
is in force, and everything that was published before has been read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import redis
from redis.exceptions import ResponseError

from ..system.logs import logger
from ..system.wakeup import Wakeup
from . import wire
from .redis_commands import FAILURES, TIMEOUT, Commands
from .redis_links import Links
from .redis_scripts import ENTER, LEAVE, TOUCH

__all__ = ["Listener"]

#: Seconds that join() waits for its room to be subscribed to.
SUBSCRIBE_TIMEOUT = 2.0
#: Seconds between the signs of life of a process, and seconds for which its members count after
#: the last one.
ALIVE_EVERY = 10.0
ALIVE_FOR = 30.0
#: How many messages the thread takes before it looks for changes to tell Redis.
TAKEN_AT_ONCE = 100
#: Seconds between two looks for changes if there is no descriptor to wake the thread through.
LOOK_AGAIN = 0.5
#: Seconds before the thread tells a change again that Redis did not take.
TELL_AGAIN = 1.0
#: Seconds before connecting again: the first time, and at most.
RETRY_FIRST = 0.1
RETRY_MAX = 5.0
#: Seconds for which members of a room may be missing after Redis has lost them. After them each
#: process has connected again, or has given its next sign of life.
DOUBT = ALIVE_EVERY + RETRY_MAX


class Owner(Protocol):
    """The methods of the bus that the thread calls."""

    def subscribed(self, room: str) -> None: ...
    def unsubscribed(self, room: str) -> None: ...
    def received(self, room: str, data: bytes) -> None: ...
    def refused(self, what: str, error: Exception) -> None: ...
    def reached(self) -> None: ...
    def connected_again(self) -> None: ...
    def lost(self, error: Exception, *, gap: bool) -> None: ...


class Listener:
    """Any thread may call every method without an underscore."""

    def __init__(self, commands: Commands, process: bytes, grace: float, owner: Owner) -> None:
        self._commands = commands
        self._process = process
        self._grace = grace
        self._owner = owner
        # Tells the thread of a change. A message through Redis would not do: Redis may hang, and
        # joins and leaves would hang with it.
        self._wakeup = Wakeup()
        # Guards the attributes below.
        self._changed = threading.Condition()
        self._counts: dict[str, int] = {}
        # The named members here, with their information as JSON.
        self._present: dict[tuple[str, str], str] = {}
        # The rooms and members of which Redis has to be told.
        self._stale: set[str] = set()
        self._stale_present: set[tuple[str, str]] = set()
        # The rooms of which Redis has been told, the rooms of which it is being told again, and
        # the moment (monotonic) until which it may not know all members of a room.
        self._written: set[str] = set()
        self._telling: set[str] = set()
        self._doubted: dict[str, float] = {}
        # Changes made, and changes that Redis knows of.
        self._ticket = self._known = 0
        # How often connecting has failed, or a connection was lost.
        self._failures = 0
        self._away = False
        self._checks = False
        self._thread: threading.Thread | None = None
        self._closed = False
        # Only the thread uses the attributes below.
        self._links = Links(commands)
        self._next_alive = 0.0
        self._tell_again = 0.0
        self._pinged = 0
        self._told = 0

    # The bus calls these

    def set_count(self, room: str, count: int) -> int:
        """See ``Bus``. Raises ``RuntimeError``, and changes nothing, if there is no thread left."""
        with self._changed:
            if count:
                self._start()
                self._counts[room] = count
            else:
                self._counts.pop(room, None)
            self._stale.add(room)
            ticket = self._ticket = self._ticket + 1
        self._wakeup.set()
        return ticket

    def set_present(self, room: str, member: str, info: str | None) -> int:
        with self._changed:
            if info is None:
                self._present.pop((room, member), None)
            else:
                self._present[room, member] = info
            self._stale_present.add((room, member))
            ticket = self._ticket = self._ticket + 1
        self._wakeup.set()
        return ticket

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            thread = threading.Thread(target=self._run, name="syncws hub", daemon=True)
            thread.start()
            self._thread = thread

    def wait(self, ticket: int) -> None:
        """Wait until Redis knows of a change, or can not be reached, or 2 s have passed."""
        with self._changed:
            failures = self._failures
            self._changed.wait_for(
                lambda: (
                    self._known >= ticket
                    or self._closed
                    or self._away
                    or self._failures != failures
                ),
                SUBSCRIBE_TIMEOUT,
            )

    def barrier(self) -> int:
        """Return a ticket for ``wait()``: all that was published before has been delivered then."""
        with self._changed:
            if self._thread is None:
                return 0
            ticket = self._ticket = self._ticket + 1
        self._wakeup.set()
        return ticket

    def complete(self, room: str) -> bool:
        """Whether all processes have told Redis their members of a room.

        Call this after you have asked Redis for the members.
        """
        with self._changed:
            return room not in self._telling and monotonic() >= self._doubted.get(room, 0.0)

    def check(self) -> None:
        """Find out when Redis can be reached again, after a command has failed."""
        with self._changed:
            self._checks = True
        self._wakeup.set()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        self._wakeup.set()
        if thread is None:
            self._wakeup.close()
        elif thread is not threading.current_thread():
            thread.join(TIMEOUT)

    # The thread

    def _run(self) -> None:
        retry = RETRY_FIRST
        while not self._closed:
            connected_at = monotonic()
            try:
                self._listen()
            except Exception as exc:  # noqa: BLE001  # of any kind: the thread connects anew
                self._fail(exc)
                if monotonic() - connected_at > RETRY_MAX:
                    retry = RETRY_FIRST
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, retry)
                retry = min(RETRY_MAX, retry * 2)
            finally:
                self._links.close()
        self._wakeup.close()

    def _fail(self, exc: Exception) -> None:
        with self._changed:
            gap = not self._away and self._told > 0
            self._away = True
            self._failures += 1
            self._stale.update(self._counts)
            self._stale_present.update(self._present)
            self._changed.notify_all()
        if not isinstance(exc, FAILURES):
            logger.exception("the thread of the hub's bus failed, and starts again")
        self._owner.lost(exc, gap=gap)

    def _listen(self) -> None:
        """Listen until the bus is closed. Raises an error when a connection is lost."""
        self._next_alive = self._tell_again = 0.0
        self._pinged = self._told = 0
        self._links.open(self._commands.process_channel(self._process))
        while True:
            self._wakeup.clear()
            if self._closed:  # checked after clear(), or a close() could go unnoticed
                return
            self._tell()
            for _ in range(TAKEN_AT_ONCE):
                if not self._take_next():
                    self._wait()
                    break

    def _take_next(self) -> bool:
        """Take a message from each connection. Returns whether there was one."""
        taken = False
        for link in list(self._links):
            message = link.next()
            if message is not None:
                taken = True
                self._take(message)
        self._confirm()
        return taken

    def _wait(self) -> None:
        """Wait until a message has arrived, or there is a change to tell."""
        until = self._next_alive
        if self._tell_again:
            until = min(until, self._tell_again)
        wake = self._wakeup.fileno()
        if wake is None:
            until = min(until, monotonic() + LOOK_AGAIN)  # no descriptor to be woken through
        self._links.wait(until, wake)

    def _confirm(self) -> None:
        """Wake the threads in ``wait()`` when Redis knows of their changes."""
        if self._pinged == self._told and self._links.answered(self._pinged):
            back = False
            with self._changed:
                if self._away:
                    self._away, back = False, True
                if self._known < self._told:
                    self._known, back = self._told, True
                    self._changed.notify_all()
            if back:
                self._owner.connected_again()

    def _tell(self) -> None:
        """Tell Redis the changes that it does not know, and that this process is alive."""
        now = monotonic()
        alive = now >= self._next_alive
        if alive:
            self._next_alive = now + ALIVE_EVERY
        with self._changed:
            again = self._checks or (self._tell_again and now >= self._tell_again)
            if not (alive or again or self._ticket != self._told):
                return
            self._checks = False
            ticket = self._ticket
            rooms = set(self._counts) | self._stale if alive else set(self._stale)
            counts = {room: self._counts.get(room, 0) for room in rooms}
            present = {key: self._present.get(key) for key in self._stale_present}
            self._stale.clear()
            self._stale_present.clear()
        self._tell_again = 0.0
        try:
            for room, count in counts.items():
                if count and room not in self._links:
                    self._links.subscribe(room)
                elif not count and room in self._links:
                    self._links.unsubscribe(room)
                    self._owner.unsubscribed(room)
            self._pinged = ticket
            self._links.ping(ticket)
        except Exception:  # raised on
            with self._changed:  # rooms without members included
                self._stale.update(counts)
                self._stale_present.update(present)
            raise
        self._write(counts, present)
        self._told = ticket

    def _write(self, counts: dict[str, int], present: dict[tuple[str, str], str | None]) -> None:
        """Write the members here into Redis. If that fails, do it later: listening goes on."""
        keys: list[Any] = [*counts, *present]
        with self._changed:
            self._telling |= self._written & counts.keys()
        try:
            self._commands.ping()
            publish = self._commands.publish_command()
            calls = [self._touch(room, count) for room, count in counts.items()]
            calls += [self._enter(*key, info, publish) for key, info in present.items()]
            results = self._commands.run_all(calls)
            self._owner.reached()
        except FAILURES as exc:
            self._owner.refused("count members", exc)
            self._tell_again = monotonic() + TELL_AGAIN
            results = [exc] * len(keys)
        self._note_written(dict(zip(counts, results, strict=False)), counts)
        news: set[str] = set()
        for key, result in zip(keys, results, strict=True):
            if isinstance(result, Exception):
                self._owner.refused("count members", result)
                with self._changed:
                    (self._stale if isinstance(key, str) else self._stale_present).add(key)
                self._tell_again = monotonic() + TELL_AGAIN
            elif result and isinstance(key, str):
                news.add(key)
        with self._changed:
            # Redis did not know this process in that room, so it does not know its members.
            again = {key for key in self._present if key[0] in news and key not in present}
            if again:
                self._stale_present |= again
                self._tell_again = monotonic()

    def _note_written(self, results: dict[str, Any], counts: dict[str, int]) -> None:
        """Note the rooms of which Redis was told. It has lost a room if it had been told of it
        before and did not know it now."""
        with self._changed:
            for room, result in results.items():
                failed = isinstance(result, Exception)
                if room in self._written and (failed or result):
                    self._doubted[room] = monotonic() + DOUBT
                self._telling.discard(room)
                if not counts[room]:
                    self._written.discard(room)
                    self._doubted.pop(room, None)
                elif not failed:
                    self._written.add(room)

    def _touch(self, room: str, count: int) -> Any:
        keys = [self._commands.key(room, b"counts"), self._commands.key(room, b"members")]
        return TOUCH, keys, [self._process.hex(), count, int(ALIVE_FOR * 1000)]

    def _enter(self, room: str, member: str, info: str | None, publish: str) -> Any:
        keys = [self._commands.key(room, b"members")]
        field = f"{self._process.hex()}:{member}"
        channel = self._commands.channel(room)
        news = wire.publication(wire.Envelope(wire.PRESENCE, b"", self._process).encode())
        if info is None:
            return LEAVE, keys, [field, int(self._grace * 1000), channel, publish, news]
        return ENTER, keys, [field, info, int(ALIVE_FOR * 1000), channel, publish, news]

    def _take(self, message: dict[str, Any]) -> None:
        kind, channel, data = message["type"], message["channel"], message["data"]
        room = self._commands.room_of(channel) if isinstance(channel, bytes) else None
        if room is None:
            return
        if kind in ("subscribe", "ssubscribe"):
            if room in self._links:
                self._safely(room, lambda: self._owner.subscribed(room))
        elif kind == "sunsubscribe" and room in self._links:
            # This was not requested: the room has moved to another node of the cluster.
            raise redis.ConnectionError(f"the cluster has moved {room!r}")
        elif kind in ("message", "smessage") and isinstance(data, bytes):
            self._safely(room, lambda: self._owner.received(room, data))

    def _safely(self, room: str, call: Callable[[], None]) -> None:
        try:
            call()
        except ResponseError as exc:
            self._owner.refused("read the history", exc)
        except FAILURES:
            raise
        except Exception:  # of one message: the others are still delivered
            logger.exception("a message to %r could not be delivered", room)
