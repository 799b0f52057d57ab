"""Groups of Redis servers: a cluster of three nodes, and a primary with a replica and Sentinels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.sentinel import Sentinel

from .background import wait_until
from .redis_server import RedisServer

SLOTS = 16384


def call(server: RedisServer, *command: Any) -> Any:
    with redis.Redis.from_url(server.url) as client:
        plain: Any = client
        return plain.execute_command(*command)


class Cluster:
    """A cluster of three primaries, and of as many replicas of them as are asked for."""

    def __init__(self, folder: Path, replicas: int = 0) -> None:
        nodes = [
            RedisServer(
                "--cluster-enabled yes",
                f"--cluster-config-file {folder / f'{number}.conf'}",
                "--cluster-node-timeout 2000",
            )
            for number in range(3 + replicas)
        ]
        self.servers, self.replicas = nodes[:3], nodes[3:]
        for number, server in enumerate(self.servers):
            call(
                server,
                *("CLUSTER", "ADDSLOTSRANGE"),
                *(number * SLOTS // 3, (number + 1) * SLOTS // 3 - 1),
            )
        for server in nodes:
            call(server, "CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        wait_until(lambda: all(self._knows_all(server) for server in nodes))
        for server, primary in zip(self.replicas, self.servers, strict=False):
            call(server, "CLUSTER", "REPLICATE", call(primary, "CLUSTER", "MYID"))
            wait_until(lambda server=server: self._follows(server))  # type: ignore[misc]  # mypy can not infer it

    def _knows_all(self, server: RedisServer) -> bool:
        info = bytes(call(server, "CLUSTER", "INFO"))
        known = len(self.servers) + len(self.replicas)
        return b"cluster_state:ok" in info and b"cluster_known_nodes:%d\r" % known in info

    def _follows(self, server: RedisServer) -> bool:
        return bool(call(server, "INFO", "replication").get("master_link_status") == "up")

    def client(self) -> RedisCluster:
        node: Any = ClusterNode  # has no types
        nodes = [node("127.0.0.1", server.port) for server in self.servers]
        return RedisCluster(startup_nodes=nodes, socket_timeout=5.0, socket_connect_timeout=5.0)

    def move(self, slot: int) -> None:
        """Remove the data of a slot's node, and move the slot to another node."""
        ids = [call(server, "CLUSTER", "MYID").decode() for server in self.servers]
        owner = self.servers.index(self.node_of(slot))
        target = (owner + 1) % 3
        call(self.servers[owner], "FLUSHALL")
        for number in (target, owner, 3 - owner - target):
            call(self.servers[number], "CLUSTER", "SETSLOT", slot, "NODE", ids[target])

    def begin_to_move(self, slot: int) -> None:
        """Move the keys of a slot to the next node, but not yet the slot itself.

        The slot's node answers a command for a key that it has not with ASK.
        """
        ids = [call(server, "CLUSTER", "MYID").decode() for server in self.servers]
        owner = self.servers.index(self.node_of(slot))
        target = (owner + 1) % 3
        call(self.servers[target], "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
        call(self.servers[owner], "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        keys = call(self.servers[owner], "CLUSTER", "GETKEYSINSLOT", slot, 100)
        port = self.servers[target].port
        call(self.servers[owner], "MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)

    def node_of(self, slot: int) -> RedisServer:
        return next(self.servers[n] for n in range(3) if slot < (n + 1) * SLOTS // 3)

    def kill(self) -> None:
        for server in [*self.servers, *self.replicas]:
            server.kill()


class Watched:
    """A primary and a replica, with a Sentinel that replaces the primary if it is gone."""

    def __init__(self, folder: Path) -> None:
        self.primary = RedisServer()
        self.replica = RedisServer()
        call(self.replica, "REPLICAOF", "127.0.0.1", self.primary.port)
        wait_until(lambda: call(self.replica, "INFO", "replication")["master_link_status"] == "up")
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds main 300\n"
            "sentinel failover-timeout main 3000\n"
        )
        self.sentinel = RedisServer("--sentinel", config=config)
        sentinel: Any = Sentinel  # has no types
        self._client = sentinel(
            [("127.0.0.1", self.sentinel.port)], socket_timeout=2.0, socket_connect_timeout=2.0
        )
        wait_until(lambda: self._client.discover_slaves("main"))

    def client(self) -> Any:
        return self._client.master_for("main", socket_timeout=2.0, socket_connect_timeout=2.0)

    def kill(self) -> None:
        for sentinel in self._client.sentinels:
            sentinel.close()
        for server in (self.sentinel, self.replica, self.primary):
            server.kill()
