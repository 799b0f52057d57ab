"""Commands to Redis: the names of keys, and how often a command may be carried out.

All keys of a room have one hash tag, so that a script can use them together in a cluster.
"""

from __future__ import annotations

import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from .redis_scripts import Script

__all__ = ["FAILURES", "TIMEOUT", "Commands", "client_for"]

#: The errors that redis-py raises if a server can not be reached, or refuses. The error for a
#: cluster without a node that can be reached is not a ``RedisError``.
FAILURES = (redis.RedisError, RedisClusterException, OSError)

#: Seconds that a command may take.
TIMEOUT = 5.0

#: Probes of an idle connection: seconds before the first, seconds between two, and how many may
#: stay without an answer. AWS's balancers forget a connection after 350 s, Azure's after 240 s.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

#: The beginning of every channel and key. The number changes with the format.
PREFIX = b"syncws:2:"
#: In the format before, each process had a channel of this name with its id behind it.
PREFIX_BEFORE = b"syncws:1:process:"


class Commands:
    """A redis-py client. Any thread may call every method."""

    def __init__(self, client: Any, prefix: str) -> None:
        # Any, because redis-py's types do not tell str from bytes.
        kinds: tuple[Any, ...] = (redis.Redis, RedisCluster)
        if not any(isinstance(client, kind) for kind in kinds):
            raise TypeError(f"client is a client of redis-py, not {client!r}")
        if client.get_encoder().decode_responses:
            raise ValueError(
                "the client has decode_responses=True, which binary messages do not survive: "
                "give the hub a client without it"
            )
        self.client = client
        self.cluster = isinstance(client, RedisCluster)
        db = 0 if self.cluster else client.connection_pool.connection_kwargs.get("db") or 0
        self._prefix = PREFIX + b"%d:" % int(db) + _quote(prefix) + b":"
        self._room_prefix = self._prefix + b"{room:"
        #: Whether messages go only to the cluster's node of the room; None until the server was
        #: asked. A server before Redis 7 has no such channels.
        self._sharded: bool | None = None if self.cluster else False

    def sharded(self) -> bool:
        """Whether the server has sharded channels. Asks it once. Raises ``redis.RedisError``."""
        if self._sharded is None:
            info = self.client.execute_command(
                "INFO", "server", target_nodes=self.client.get_random_node()
            )
            self._sharded = int(str(info["redis_version"]).partition(".")[0]) >= 7
        return self._sharded

    def publish_command(self) -> str:
        return "SPUBLISH" if self.sharded() else "PUBLISH"

    # Names

    def channel(self, room: str) -> bytes:
        return self._room_prefix + _quote(room) + b"}"

    def key(self, room: str, kind: bytes) -> bytes:
        return self.channel(room) + b":" + kind

    def process_channel(self, process: bytes) -> bytes:
        return self._prefix + b"process:" + process.hex().encode()

    def room_of(self, channel: bytes) -> str | None:
        if not channel.startswith(self._room_prefix) or not channel.endswith(b"}"):
            return None
        quoted = channel[len(self._room_prefix) : -1]
        for character, code in reversed(_QUOTED):
            quoted = quoted.replace(code, character)
        return quoted.decode(errors="replace")

    # Commands

    def once(self, key: bytes, *command: Any) -> Any:
        """Carry out a command at most once.

        redis-py sends a command again if its answer was lost. This method sends it again only if
        Redis can not have received all of it: there was no connection, or it broke while the
        command was written.
        """
        error: Exception = redis.ConnectionError("the cluster is being changed")
        asked: Any = None
        for _ in range(2 if not self.cluster else 6):
            pool, asking = asked or self._pool(key), asked is not None
            asked = None
            try:
                connection = pool.get_connection()
            except redis.ConnectionError as exc:
                error = exc
                self.look_for_nodes()
                continue
            try:
                try:
                    if asking:
                        connection.send_command("ASKING")
                        connection.read_response()
                    connection.send_command(*command)
                except redis.ConnectionError as exc:
                    error = exc
                    continue
                return connection.read_response()
            except (AskError, TryAgainError, ClusterDownError) as exc:
                # This node of the cluster has not carried it out. While a slot moves, a script
                # finds all of its keys on one node or does not run.
                if isinstance(exc, TryAgainError):
                    error = exc
                if isinstance(exc, AskError) and not isinstance(exc, MovedError):
                    asked = self._pool_of(self.client.get_node(host=exc.host, port=exc.port))
                if asked is None:
                    self.look_for_nodes()
            except ResponseError:
                raise
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)
        raise error

    def look_for_nodes(self) -> None:
        """Ask a cluster which node has which keys now."""
        if self.cluster:
            self.client.nodes_manager.initialize()

    def _pool(self, key: bytes) -> Any:
        if not self.cluster:
            return self.client.connection_pool
        return self._pool_of(self.client.get_node_from_key(key))

    def _pool_of(self, node: Any) -> Any:
        """Return the connections to a node of a cluster, or None for an unknown node."""
        return None if node is None else self.client.get_redis_connection(node).connection_pool

    def run_once(self, script: Script, keys: list[bytes], *arguments: Any) -> Any:
        """Run a script at most once."""
        try:
            return self.once(keys[0], "EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # an answer of Redis, so the script has not run
            return self.once(keys[0], "EVAL", script.text, len(keys), *keys, *arguments)

    def run_all(self, calls: list[tuple[Script, list[bytes], list[Any]]]) -> list[Any]:
        """Run scripts that may run twice. Returns the result or the error of each."""
        if not self.cluster:
            pipeline = self.client.pipeline(transaction=False)
            for script, keys, arguments in calls:
                pipeline.eval(script.text, len(keys), *keys, *arguments)
            return list(pipeline.execute(raise_on_error=False))
        results = []
        for script, keys, arguments in calls:
            try:
                results.append(self.client.eval(script.text, len(keys), *keys, *arguments))
            except ResponseError as exc:
                results.append(exc)
        return results

    def run(self, script: Script, keys: list[bytes], *arguments: Any) -> Any:
        """Run a script that may run twice."""
        return self.client.eval(script.text, len(keys), *keys, *arguments)

    def ping(self) -> None:
        """Raise ``redis.RedisError`` if commands do not reach Redis."""
        self.client.ping()

    def old_processes(self) -> bool:
        """Whether there are workers that use the format before this one."""
        found = self.client.execute_command("PUBSUB", "CHANNELS", PREFIX_BEFORE + b"*")
        return bool(found)


def client_for(url: str) -> Any:
    """Make a client that belongs to the hub.

    It tries again after a connection was lost, but not if Redis does not answer in time. The
    system sends probes on idle connections, so that a NAT in between does not forget them.
    """
    options: dict[str, Any] = {}
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
        options["socket_keepalive_options"] = {
            getattr(socket, name): value
            for name, value in KEEPALIVE.items()
            if hasattr(socket, name)
        }
    return redis.Redis.from_url(
        url,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        **options,
    )


#: The percent sign comes first, because it is part of the other codes.
_QUOTED = [(b"%", b"%25"), (b"{", b"%7B"), (b"}", b"%7D"), (b":", b"%3A")]


def _quote(name: str) -> bytes:
    """Return ``name`` with codes in place of the characters that have a meaning in a key."""
    quoted = name.encode()
    for character, code in _QUOTED:
        quoted = quoted.replace(character, code)
    return quoted
