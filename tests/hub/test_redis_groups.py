"""Where Redis is more than one server: Cluster, and Sentinel."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from syncws import History, Hub, HubError
from syncws.hub import redis_listener

from ..conftest import MakeSession
from ..support.background import wait_until
from ..support.pairs import PATIENCE
from ..support.redis_group import Cluster, Watched, call
from ..support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def cluster(tmp_path: Path, stack: ExitStack) -> Cluster:
    made = Cluster(tmp_path)
    stack.callback(made.kill)
    return made


@pytest.fixture
def watched(tmp_path: Path, stack: ExitStack) -> Watched:
    made = Watched(tmp_path)
    stack.callback(made.kill)
    return made


def hub(stack: ExitStack, client: Any, **options: Any) -> Hub:
    made = Hub(client=client, **options)
    stack.callback(client.close)
    stack.callback(made.close)
    return made


@pytest.mark.load
@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_f6_rooms_in_a_cluster(
    cluster: Cluster, stack: ExitStack, make_session: MakeSession, history: History | None
) -> None:
    here, there = (
        hub(stack, cluster.client(), history=history, presence_grace=0, on_bus_lost="raise")
        for _ in range(2)
    )
    (first, one), (second, two) = make_session(), make_session()
    rooms = ["a", "b", "c", "d", "}", "", "{x}y"]
    with ExitStack() as joined:
        for room in rooms:
            joined.enter_context(here.join(room, first, member="ann"))
            joined.enter_context(there.join(room, second, member="bob", info=1))
        for room in rooms:
            id = here.send_json(room, {"room": room})
            assert (id is None) == (history is None)
            assert json.loads(one.receive())["room"] == json.loads(two.receive())["room"] == room
            assert there.count(room) == 2
            assert here.presence(room) == {"ann": None, "bob": 1}
        nodes = [call(server, "PUBSUB", "SHARDCHANNELS") for server in cluster.servers]
        assert sum(map(len, nodes)) == len(rooms), "each on the node that has its slot"
        assert all(nodes)
        # A slot with a room moves to another node.
        empty = next(room for room in map(str, range(100)) if room not in rooms)
        with here.join(empty, first), there.join(empty, second):
            client: Any = cluster.client()
            bus: Any = here._bus
            cluster.move(client.keyslot(bus._commands.channel(empty)))
            client.close()

            def heard() -> bool:
                there.send_json(empty, {"again": 1})
                try:
                    return bool(one.receive(0.2))
                except TimeoutError:
                    return False

            if history is None:
                wait_until(heard)
        for peer in (one, two):
            peer.socket.settimeout(PATIENCE)
    if history is not None:
        sent = [here.send_json("a", {"n": n}) for n in range(3)]
        third, three = make_session()
        with there.join("a", third, after=sent[0]) as member:
            assert not member.gap
            assert [json.loads(three.receive())["n"] for _ in range(2)] == [1, 2]


def slot_of(made: Hub, room: str) -> int:
    bus: Any = made._bus
    return int(bus._commands.client.keyslot(bus._commands.channel(room)))


@pytest.mark.load
def test_messages_are_kept_while_their_room_moves_to_another_node(
    cluster: Cluster, stack: ExitStack, make_session: MakeSession
) -> None:
    here, there = (
        hub(stack, cluster.client(), history=History(), on_bus_lost="raise") for _ in range(2)
    )
    session, peer = make_session()
    with there.join("a", session):
        slot = slot_of(here, "a")
        ids = [here.send("a", "0")]
        cluster.begin_to_move(slot)
        ids += [here.send("a", str(number)) for number in (1, 2)]
        assert [str(id).split("-")[1] for id in ids] == ["1", "2", "3"]
        assert here.history("a") == ["0", "1", "2"]
        cluster.move(slot)
        assert [peer.receive() for _ in range(3)] == ["0", "1", "2"]


@pytest.mark.load
@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_f6_a_replica_takes_the_place_of_a_node_that_has_failed(
    tmp_path: Path,
    stack: ExitStack,
    make_session: MakeSession,
    history: History | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "RETRY_MAX", 0.2)
    cluster = Cluster(tmp_path, replicas=3)
    stack.callback(cluster.kill)
    here, there = (hub(stack, cluster.client(), history=history) for _ in range(2))
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first, member="ann"), there.join("a", second):
        here.send("a", "before")
        assert one.receive() == two.receive() == "before"
        node = cluster.node_of(slot_of(here, "a"))
        call(node, "WAIT", 1, 1000)
        node.kill()
        wait_until(lambda: here.gaps == there.gaps == 1)
        replica = cluster.replicas[cluster.servers.index(node)]
        here.send("a", "meanwhile")
        assert one.receive() == "meanwhile"
        assert here.undelivered == 1
        wait_until(lambda: call(replica, "ROLE")[0] == b"master")
        wait_until(lambda: here.connected and there.connected and there.count("a") == 2)
        assert there.presence("a") == {"ann": None}
        sent = here.send("a", "after")
        assert one.receive() == two.receive() == "after"
        if history is not None:
            assert str(sent).split("-")[1] == "2"
            assert there.history("a") == ["before", "after"]


@pytest.mark.load
@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_f6_a_cluster_that_is_away_ends_no_session(
    cluster: Cluster,
    stack: ExitStack,
    make_session: MakeSession,
    history: History | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = hub(stack, cluster.client(), history=history)
    session, peer = make_session()
    with here.join("a", session, member="ann"):
        cluster.kill()
        for number in range(3):
            assert here.send("a", str(number)) is None
            assert peer.receive() == str(number)
        assert here.count("a") == 1
        assert here.presence("a") == {"ann": None}
        here.disconnect("a", 1008, "out")
        assert peer.answer_close() == (1008, "out")
        wait_until(lambda: here.gaps == 1)
    assert here.undelivered == 4
    assert not [r for r in caplog.records if r.exc_info], "no traceback"


@pytest.mark.load
@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_f6_a_failover_subscribes_again_and_counts_a_gap(
    watched: Watched,
    stack: ExitStack,
    make_session: MakeSession,
    history: History | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "RETRY_MAX", 0.2)
    here, there = (hub(stack, watched.client(), history=history) for _ in range(2))
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first, member="ann"), there.join("a", second):
        here.send("a", "before")
        assert one.receive() == two.receive() == "before"
        call(watched.primary, "WAIT", 1, 1000)
        watched.primary.kill()
        wait_until(lambda: here.gaps == there.gaps == 1)
        wait_until(lambda: here.connected and there.connected)
        wait_until(lambda: there.count("a") == 2)
        assert there.presence("a") == {"ann": None}
        here.send("a", "after")
        assert one.receive() == two.receive() == "after"
        if history is not None:
            assert there.history("a") == ["before", "after"]


def test_f6_a_client_of_ones_own(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    client = redis.Redis(port=server.port, db=3)
    here, there = hub(stack, client), Hub(f"redis://127.0.0.1:{server.port}/3")
    stack.callback(there.close)
    session, peer = make_session()
    with here.join("a", session):
        there.send("a", "x")
        assert peer.receive() == "x"
    here.close()
    assert client.ping(), "it is not the hub's to close"
    with pytest.raises(HubError, match="closed"):
        here.send("a", "x")


def test_a_client_that_decodes_is_refused(server: RedisServer) -> None:
    client = redis.Redis(port=server.port, decode_responses=True)
    with pytest.raises(ValueError, match="decode_responses"):
        Hub(client=client)
    with pytest.raises(TypeError, match="a client of redis-py"):
        Hub(client="redis://localhost")


def test_a_unix_socket(tmp_path: Path, stack: ExitStack, make_session: MakeSession) -> None:
    server = RedisServer(f"--unixsocket {tmp_path / 's'}")
    stack.callback(server.kill)
    here, there = (Hub(f"unix://{tmp_path / 's'}?db=1") for _ in range(2))
    stack.callback(here.close)
    stack.callback(there.close)
    session, peer = make_session()
    with here.join("a", session):
        there.send("a", "x")
        assert peer.receive() == "x"
