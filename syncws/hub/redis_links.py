"""The connections that listen: one, or one for each node of a cluster that is needed.

Only the listener's thread uses them. redis-py would connect and subscribe again by itself, and the
gap would go unnoticed. So that is switched off here.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from time import monotonic
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .redis_commands import TIMEOUT, Commands

__all__ = ["Link", "Links"]


class Link:
    """A subscribed connection."""

    def __init__(self, client: Any, *, sharded: bool) -> None:
        self._pubsub = client.pubsub()
        self._sharded = sharded
        self._retry: Any = None
        #: The number of the last ping that was answered.
        self.answered = 0
        # When the first ping was sent after which nothing has arrived (monotonic), or None.
        self._silent_since: float | None = None

    def subscribe(self, channel: bytes) -> None:
        (self._pubsub.ssubscribe if self._sharded else self._pubsub.subscribe)(channel)
        if self._retry is None:
            self._retry = self._pubsub.connection.retry
            self._pubsub.connection.retry = Retry(NoBackoff(), 0)

    def unsubscribe(self, channel: bytes) -> None:
        (self._pubsub.sunsubscribe if self._sharded else self._pubsub.unsubscribe)(channel)

    def ping(self, number: int) -> None:
        self._pubsub.ping(b"%d" % number)
        if self._silent_since is None:
            self._silent_since = monotonic()

    @property
    def socket(self) -> Any:
        # It is private, but redis-py has no way to wait for its socket and another one.
        sock = self._pubsub.connection._sock
        if sock is None:
            raise redis.ConnectionError("the connection was closed")
        return sock

    def next(self) -> dict[str, Any] | None:
        """Return a message that has arrived, or None."""
        if not self._pubsub.connection.can_read(0):
            return None
        # Not get_message(): without a subscription it does not read, but waits for one.
        response = self._pubsub.parse_response(block=False, timeout=TIMEOUT)
        message: dict[str, Any] | None = self._pubsub.handle_message(response)
        self._silent_since = None
        if message is not None and message["type"] == "pong":
            data = message["data"]
            if isinstance(data, bytes) and data.isdigit():
                self.answered = int(data)
        return message or {"type": "nothing", "channel": None, "data": None}

    @property
    def deadline(self) -> float | None:
        """The moment by which something has to arrive, or None if no ping waits for an answer."""
        return None if self._silent_since is None else self._silent_since + TIMEOUT

    def close(self) -> None:
        connection = self._pubsub.connection
        if connection is not None and self._retry is not None:
            connection.retry = self._retry
        self._pubsub.close()


class Links:
    """The connections, and the one that each room uses."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._links: dict[str, Link] = {}
        self._link_of: dict[str, Link] = {}

    def open(self, channel: bytes) -> None:
        """Connect. In a cluster each room connects to its own node.

        Another node may have replaced one that has failed, so the cluster is asked.
        """
        self._commands.look_for_nodes()
        if not self._commands.sharded():
            self._link(channel).subscribe(channel)

    def _link(self, channel: bytes) -> Link:
        client, name, sharded = self._commands.client, "", self._commands.sharded()
        if self._commands.cluster:
            node = client.get_node_from_key(channel)
            if sharded:
                name = node.name
            client = client.get_redis_connection(node)
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = Link(client, sharded=sharded)
        return link

    def subscribe(self, room: str) -> None:
        channel = self._commands.channel(room)
        link = self._link_of[room] = self._link(channel)
        link.subscribe(channel)

    def unsubscribe(self, room: str) -> None:
        link = self._link_of.pop(room, None)
        if link is not None:
            link.unsubscribe(self._commands.channel(room))

    def __contains__(self, room: str) -> bool:
        return room in self._link_of

    def __iter__(self) -> Iterator[Link]:
        return iter(self._links.values())

    def ping(self, number: int) -> None:
        for link in self:
            link.ping(number)

    def answered(self, number: int) -> bool:
        """Whether all that was sent before this ping was carried out, and its answers were read."""
        return all(link.answered >= number for link in self)

    def wait(self, until: float, wake: int | None) -> None:
        """Wait until something arrives, ``wake`` is readable, or the moment has come.

        Raises ``redis.ConnectionError`` if a connection gives no sign of life.
        """
        poll = select.poll()
        for link in self:
            if link.deadline is not None:
                if link.deadline <= monotonic():
                    raise redis.ConnectionError(f"nothing has come for {TIMEOUT} s after a ping")
                until = min(until, link.deadline)
            poll.register(link.socket, select.POLLIN)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        poll.poll(max(0, int((until - monotonic()) * 1000) + 1))

    def close(self) -> None:
        for link in self:
            link.close()
        self._links.clear()
        self._link_of.clear()
