"""The hub's bus: Redis, or Valkey, publish-subscribe.

One connection and one thread a process, subscribed to the rooms that have
members here. The thread starts with the first member: who only sends needs
none. It connects again when it has lost the connection, subscribes again, and
tells the log.

Whoever can write to the Redis can send to rooms, and nothing else: a message is
bytes with a version in front, of bounded size, and whatever does not look like
one is thrown away.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .errors import HubError
from .protocol.prepared import PreparedMessage
from .system.wakeup import Wakeup

if TYPE_CHECKING:
    import socket

__all__ = ["RedisBus"]

logger = logging.getLogger("syncws")

#: In front of every channel and key. The number changes with the format.
PREFIX = b"syncws:1:"

#: A message: who sent it (16 bytes), its kind, and the rest is its payload.
_TEXT, _BINARY = b"t", b"b"
_SENDER = 16

#: Bytes of the largest message that is sent over the bus, or taken from it.
MAX_MESSAGE_SIZE = 16 * 1024 * 1024

#: Seconds that a command may take.
TIMEOUT = 5.0
#: Seconds that join() waits for its room to be subscribed to.
SUBSCRIBE_TIMEOUT = 2.0
#: Seconds between signs of life, and after how many the members of a process
#: that gives none are not counted any more.
ALIVE_EVERY = 10.0
ALIVE_FOR = 30.0
#: Messages that are taken before looking at what there is to tell.
TAKEN_AT_ONCE = 100
#: Seconds between two looks at what there is to tell, where nothing can wake the thread.
LOOK_AGAIN = 0.5
#: Seconds before connecting again: the first time, and at most.
RETRY_FIRST = 0.1
RETRY_MAX = 5.0


class RedisBus:
    """Every method is for any thread. ``deliver`` is called in the bus's own."""

    def __init__(self, url: str, deliver: Callable[[str, PreparedMessage], None]) -> None:
        # They connect when first used, and again after a fork. For
        # commands: once more, on a new connection, when one has been lost. To
        # listen: not, since nobody would know of the gap. (Any: redis-py's own
        # types do not tell str from bytes.)
        self._redis: Any = _client(url, retries=1)
        self._listener: Any = _client(url, retries=0)
        self._deliver = deliver
        self.begin()

    def begin(self) -> None:
        """In each process anew."""
        self._id = os.urandom(_SENDER)
        # Tells the thread that there is something to do: not by way of Redis,
        # which may hang, and with it everybody who comes and goes.
        self._wakeup = Wakeup()
        # Guards the five below.
        self._changed = threading.Condition()
        self._counts: dict[str, int] = {}
        # Rooms whose subscription, or count, Redis has to be told of.
        self._stale: set[str] = set()
        # Rooms whose subscription Redis has confirmed.
        self._subscribed: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closed = False
        #: How often the connection was lost while rooms were subscribed to.
        self.gaps = 0
        # For the thread. Rooms whose subscription Redis was asked for, and what
        # it was asked about each and has not confirmed yet.
        self._asked: set[str] = set()
        self._unconfirmed: Counter[str] = Counter()
        self._next_alive = 0.0

    # For the hub

    def publish(self, room: str, data: str | bytes) -> None:
        """Send to the other processes. Raises ``HubError`` when that fails."""
        kind, payload = (_TEXT, data.encode()) if isinstance(data, str) else (_BINARY, data)
        if len(payload) > MAX_MESSAGE_SIZE:
            raise HubError(
                f"a message of {len(payload)} bytes is too large for the bus, which takes "
                f"{MAX_MESSAGE_SIZE}: it was sent to the members in this process only"
            )
        if self._closed:
            raise HubError("the hub is closed: the message went to members in this process only")
        try:
            self._redis.publish(_channel(room), self._id + kind + payload)
        except redis.RedisError as exc:
            raise HubError(
                f"the bus can not be reached ({exc}): the message was sent to the members in "
                "this process only"
            ) from exc

    def set_count(self, room: str, count: int) -> None:
        """How many members a room has here: with the first one it is subscribed to,
        with the last one no longer."""
        with self._changed:
            if count:
                self._counts[room] = count
            else:
                self._counts.pop(room, None)
            self._stale.add(room)
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="syncws hub", daemon=True)
                self._thread.start()
        self._wakeup.set()

    def wait_until_subscribed(self, room: str) -> None:
        """From then on nothing that is sent to the room is missed. While the bus
        is away that can not be waited for: the room is subscribed to when it is back."""
        with self._changed:
            self._changed.wait_for(
                lambda: room in self._subscribed or self._closed, SUBSCRIBE_TIMEOUT
            )

    def count(self, room: str) -> int:
        """The members in all processes that are alive. Raises ``HubError``."""
        key = PREFIX + b"count:" + room.encode()
        try:
            counts = {
                process: int(count)
                for process, count in self._redis.hgetall(key).items()
                if count.isdigit()
            }
            with self._changed:
                here = self._counts.get(room, 0)
            # What is known better than Redis may know yet.
            counts.pop(self._id.hex().encode(), None)
            others = list(counts)
            alive = self._redis.mget([PREFIX + b"alive:" + p for p in others]) if others else []
            dead = [p for p, sign in zip(others, alive, strict=True) if sign is None]
            if dead:
                self._redis.hdel(key, *dead)
        except redis.RedisError as exc:
            raise HubError(f"the bus can not be reached ({exc})") from exc
        return here + sum(counts[p] for p in others if p not in dead)

    def close(self) -> None:
        """End the thread and the connections."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        self._wakeup.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(TIMEOUT)
        self._redis.close()
        self._listener.close()

    # The thread

    def _run(self) -> None:
        retry = RETRY_FIRST
        while not self._closed:
            connected_at = monotonic()
            try:
                self._listen()
            except Exception as exc:  # of whatever kind: the connection is made anew
                with self._changed:
                    lost = bool(self._subscribed)
                    self._subscribed.clear()
                    self._stale.update(self._counts)
                    self.gaps += lost
                if not isinstance(exc, redis.RedisError):
                    logger.exception("the thread of the hub's bus failed, and starts again")
                elif lost:
                    logger.warning("the hub has lost its bus, and connects again: %s", exc)
                if monotonic() - connected_at > RETRY_MAX:
                    retry = RETRY_FIRST
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, retry)
                retry = min(RETRY_MAX, retry * 2)
        self._wakeup.close()

    def _listen(self) -> None:
        """Until the bus is closed, or the connection lost."""
        self._asked.clear()
        self._unconfirmed.clear()
        self._next_alive = 0.0
        with self._listener.pubsub() as pubsub:
            # Of no use but that there is a connection, also without any room.
            pubsub.subscribe(PREFIX + b"process:" + self._id.hex().encode())
            while not self._closed:
                self._wakeup.clear()
                self._tell(pubsub)
                for _ in range(TAKEN_AT_ONCE):
                    # Private, but redis-py waits for nothing beside its own socket.
                    sock = pubsub.connection._sock
                    if sock is None:
                        raise redis.ConnectionError("the connection was closed")
                    if not pubsub.connection.can_read(0):
                        self._wait(sock)
                        break
                    message = pubsub.get_message(timeout=TIMEOUT)
                    if message is not None:
                        self._take(message)

    def _wait(self, sock: socket.socket) -> None:
        """Until something has come, or there is something to tell."""
        timeout = max(0.0, self._next_alive - monotonic())
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        wake = self._wakeup.fileno()
        if wake is None:
            timeout = min(timeout, LOOK_AGAIN)  # no descriptor is left to be woken through
        else:
            poll.register(wake, select.POLLIN)
        poll.poll(math.ceil(timeout * 1000))

    def _tell(self, pubsub: Any) -> None:
        """Tell Redis what it does not know yet, and that this process is alive."""
        now = monotonic()
        alive = now >= self._next_alive
        with self._changed:
            stale = set(self._counts) | self._stale if alive else set(self._stale)
            self._stale.clear()
            counts = {room: self._counts.get(room, 0) for room in stale}
            # Who comes from now on waits for its room to be subscribed to again.
            self._subscribed.difference_update(r for r, count in counts.items() if not count)
        try:
            self._ask_for(pubsub, counts)
            self._write(counts, alive=alive, now=now)
        except Exception:  # raised on
            with self._changed:
                self._stale |= stale  # also the rooms that nobody is in any more
            raise

    def _ask_for(self, pubsub: Any, counts: dict[str, int]) -> None:
        """Subscribe to the rooms that have members, and to no others."""
        new = [room for room, count in counts.items() if count and room not in self._asked]
        gone = [room for room, count in counts.items() if not count and room in self._asked]
        self._unconfirmed.update(new + gone)
        if new:
            self._asked.update(new)
            pubsub.subscribe(*map(_channel, new))
        if gone:
            self._asked.difference_update(gone)
            pubsub.unsubscribe(*map(_channel, gone))

    def _write(self, counts: dict[str, int], *, alive: bool, now: float) -> None:
        me = self._id.hex().encode()
        if alive or counts:
            pipeline = self._redis.pipeline(transaction=False)
            if alive:
                pipeline.set(PREFIX + b"alive:" + me, b"", px=int(ALIVE_FOR * 1000))
                self._next_alive = now + ALIVE_EVERY
            for room, count in counts.items():
                key = PREFIX + b"count:" + room.encode()
                if count:
                    pipeline.hset(key, me, count)
                    pipeline.pexpire(key, int(ALIVE_FOR * 1000))
                else:
                    pipeline.hdel(key, me)
            pipeline.execute()

    def _take(self, message: dict[str, object]) -> None:
        channel, data = message["channel"], message["data"]
        if not isinstance(channel, bytes) or not channel.startswith(PREFIX + b"room:"):
            return
        room = channel[len(PREFIX) + 5 :].decode(errors="replace")
        if message["type"] in ("subscribe", "unsubscribe"):
            # In the order in which they were asked for: the last one counts.
            self._unconfirmed[room] -= 1
            if not self._unconfirmed[room]:
                del self._unconfirmed[room]
                if room in self._asked:
                    with self._changed:
                        self._subscribed.add(room)
                        self._changed.notify_all()
        elif message["type"] == "message" and isinstance(data, bytes):
            if data[:_SENDER] == self._id:
                return  # delivered when it was sent
            prepared = _parse(data)
            if prepared is None:
                logger.info("the hub has thrown away what is no message, to %r", room)
            else:
                self._deliver_safely(room, prepared)

    def _deliver_safely(self, room: str, message: PreparedMessage) -> None:
        try:
            self._deliver(room, message)
        except Exception:  # which is no reason to lose the others
            logger.exception("a message to %r could not be delivered", room)


def _client(url: str, *, retries: int) -> Any:
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), retries),
    )


def _channel(room: str) -> bytes:
    return PREFIX + b"room:" + room.encode()


def _parse(data: bytes) -> PreparedMessage | None:
    kind, payload = data[_SENDER : _SENDER + 1], data[_SENDER + 1 :]
    if len(payload) > MAX_MESSAGE_SIZE:
        return None
    if kind == _BINARY:
        return PreparedMessage(payload)
    try:
        return PreparedMessage(payload.decode()) if kind == _TEXT else None
    except UnicodeDecodeError:
        return None
