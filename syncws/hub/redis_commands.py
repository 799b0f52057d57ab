"""Commands to Redis: names of keys, and how often a command is carried out.

All keys of a room have one hash tag, so that a script may use them together in a cluster.
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

#: What redis-py raises when a server can not be reached, or refuses. Where no node of a cluster
#: can be reached it raises something that is no ``RedisError``.
FAILURES = (redis.RedisError, RedisClusterException, OSError)

#: Seconds that a command may take.
TIMEOUT = 5.0

#: Probes of an idle connection: seconds before the first, seconds between two, and how many may
#: stay without an answer. AWS's balancers forget a connection after 350 s, Azure's after 240 s.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}

#: In front of every channel and key. The number changes with the format.
PREFIX = b"syncws:2:"
#: The channel that each process of the format before has, with its id behind.
PREFIX_BEFORE = b"syncws:1:process:"


class Commands:
    """A redis-py client, used by any thread."""

    def __init__(self, client: Any, prefix: str) -> None:
        # (Any: redis-py's own types do not tell str from bytes.)
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
        #: Whether messages go only to the nodes of a cluster that need them. A server before
        #: Redis 7 has no such channels.
        self._sharded: bool | None = None if self.cluster else False

    def sharded(self) -> bool:
        """Whether the server has sharded channels, asked once. Raises ``redis.RedisError``."""
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

        redis-py sends a command again when its answer was lost. This sends it again only when
        Redis can not have got it whole: when there was no connection, or it broke while the
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
                # That node of a cluster has not done it. While a slot moves, a script finds all of
                # its keys on one node or does not run.
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
        """The connections to a node of a cluster; None for a node that is not known."""
        return None if node is None else self.client.get_redis_connection(node).connection_pool

    def run_once(self, script: Script, keys: list[bytes], *arguments: Any) -> Any:
        """Run a script at most once."""
        try:
            return self.once(keys[0], "EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # which is an answer: it has not run
            return self.once(keys[0], "EVAL", script.text, len(keys), *keys, *arguments)

    def run_all(self, calls: list[tuple[Script, list[bytes], list[Any]]]) -> list[Any]:
        """Run scripts that may run twice; gives for each what it gave or raised."""
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
        """Raises ``redis.RedisError`` when commands do not get through."""
        self.client.ping()

    def old_processes(self) -> bool:
        """Whether workers are there that use the format before this one."""
        found = self.client.execute_command("PUBSUB", "CHANNELS", PREFIX_BEFORE + b"*")
        return bool(found)


def client_for(url: str) -> Any:
    """A client of the hub's own.

    It tries again when a connection is lost, and not when Redis does not answer in time. The
    system looks after idle connections, so that a NAT between does not forget them.
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


#: The percent sign first: it stands in the codes.
_QUOTED = [(b"%", b"%25"), (b"{", b"%7B"), (b"}", b"%7D"), (b":", b"%3A")]


def _quote(name: str) -> bytes:
    """``name`` without what has a meaning in a key."""
    quoted = name.encode()
    for character, code in _QUOTED:
        quoted = quoted.replace(character, code)
    return quoted
