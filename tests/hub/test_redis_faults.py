"""A Redis that refuses, hangs, loses answers, or goes silent."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest
import redis

from syncws import History, Hub, HubError, Session
from syncws.hub import redis_bus, redis_links, redis_listener
from syncws.hub.redis_bus import RedisBus

from ..conftest import MakeSession
from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE
from ..support.proxies import Proxy
from ..support.redis_server import RedisServer


@pytest.fixture
def proxy(server: RedisServer, stack: ExitStack) -> Proxy:
    made = Proxy(server.port)
    stack.callback(made.close)
    return made


def hub(stack: ExitStack, url: str, **options: Any) -> Hub:
    made = Hub(url, **options)
    stack.callback(made.close)
    return made


def fill(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)


def make_replica(client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", 1)


def forbid_writing(client: redis.Redis) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-@write", "-@scripting")  # type: ignore[no-untyped-call]  # redis-py's


def want_replicas(client: redis.Redis) -> None:
    client.config_set("min-replicas-to-write", 1)


def take_the_keys(client: redis.Redis) -> None:
    for kind in ("counts", "members", "log", "last"):
        client.set("syncws:2:0::{room:a}:" + kind, "another's")


REFUSALS = [fill, make_replica, forbid_writing, want_replicas, take_the_keys]


@pytest.mark.parametrize("refuse", REFUSALS)
@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_a_redis_that_refuses_to_write_goes_on_publishing(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    refuse: Callable[[redis.Redis], None],
    history: History | None,
) -> None:
    monkeypatch.setattr(redis_listener, "SUBSCRIBE_TIMEOUT", 3 * PATIENCE)
    with redis.Redis.from_url(server.url) as client:
        refuse(client)
    here, there = (hub(stack, server.url, history=history) for _ in range(2))
    (first, one), (second, two) = make_session(), make_session()
    began = monotonic()
    with here.join("a", first, member="ann") as joined, there.join("a", second):
        assert monotonic() - began < 2 * PATIENCE, "joining does not wait"
        assert (joined.last_id, joined.gap) == (None, False)
        for number in range(3):
            assert here.send("a", f'{{"number":{number}}}') is None, "it is not kept"
            assert one.receive() == two.receive() == f'{{"number":{number}}}'
        there.disconnect("a", 1008, "out", exclude=second)
        assert one.answer_close() == (1008, "out")
        assert here.connected
        assert here.gaps == here.undelivered == 0
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert any("Redis refuses to" in each for each in warnings)
    assert max(Counter(warnings).values()) <= 2, "each is said once a hub"


def test_counting_goes_on_when_redis_takes_it_again(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "TELL_AGAIN", 0.01)
    here, there = hub(stack, server.url), hub(stack, server.url)
    session, _ = make_session()
    with redis.Redis.from_url(server.url) as client:
        fill(client)
        with here.join("a", session, member="ann", info=5):
            assert there.count("a") == 0
            client.config_set("maxmemory", 0)
            wait_until(lambda: there.count("a") == 1)
            wait_until(lambda: there.presence("a") == {"ann": 5})


@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_a_message_whose_answer_was_lost_is_sent_once(
    server: RedisServer,
    proxy: Proxy,
    stack: ExitStack,
    make_session: MakeSession,
    history: History | None,
) -> None:
    here = hub(stack, proxy.url, history=history, on_bus_lost="raise")
    there = hub(stack, server.url, history=history)
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first), there.join("a", second):
        here.send("a", "before")
        proxy.watch(b"lost answer", lose_answer=True)
        if history is None:
            with pytest.raises(HubError, match="this process only"):
                here.send("a", "lost answer")
        else:
            # It comes back over the other connection, which tells its id.
            assert str(here.send("a", "lost answer")).partition("-")[2].startswith("2-")
        here.send("a", "after")
        for peer in (one, two):
            assert [peer.receive() for _ in range(3)] == ["before", "lost answer", "after"]
        assert proxy.seen == 1
        assert here.undelivered == (history is None)


def test_a_connection_that_redis_has_closed_meanwhile_is_replaced(
    server: RedisServer, proxy: Proxy, stack: ExitStack, make_session: MakeSession
) -> None:
    here, there = hub(stack, proxy.url, on_bus_lost="raise"), hub(stack, server.url)
    session, peer = make_session()
    with there.join("a", session):
        for text in ("one", "two", "three"):
            here.send("a", text)
            assert peer.receive() == text
            proxy.cut()


def test_a_connection_that_died_silently_is_noticed(
    server: RedisServer,
    proxy: Proxy,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "ALIVE_EVERY", 0.05)
    monkeypatch.setattr(redis_links, "TIMEOUT", 0.3)
    here, there = (
        hub(stack, f"{proxy.url}?socket_timeout=0.3", history=History()),
        hub(stack, server.url, history=History()),
    )
    session, peer = make_session()
    with here.join("a", session):
        proxy.die_silently()
        there.send("a", "missed")
        assert peer.receive() == "missed", "it was caught up with"
        assert here.gaps == 1
        there.send("a", "heard")
        assert peer.receive() == "heard"


@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_a_redis_that_hangs_holds_up_each_sender_once(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
    history: History | None,
) -> None:
    monkeypatch.setattr(redis_bus, "PAUSE", 60.0)
    here = hub(stack, f"{server.url}?socket_timeout=1", history=history)
    session, peer = make_session()
    with here.join("a", session):
        server.hang()
        began = monotonic()
        for number in range(10):
            assert here.send("a", str(number)) is None
            assert peer.receive() == str(number)
        assert monotonic() - began < 8, "ten would take ten seconds"
        assert here.undelivered == 10
        assert not here.connected
        server.go_on()
        wait_until(lambda: here.connected)

        def heard() -> bool:
            here.send("a", "again")
            return here.connected and peer.receive() == "again"

        wait_until(heard)


def test_a_redis_that_takes_connections_and_says_nothing_is_tried_once(stack: ExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=0.1"
        calls: list[Callable[[Hub], object]] = [
            lambda hub: hub.send("a", "x"),
            lambda hub: hub.count("a"),
            lambda hub: hub.presence("a"),
            lambda hub: hub.history("a"),
        ]
        for call in calls:
            call(hub(stack, url, history=History()))
            silent.accept()[0].close()
            with pytest.raises(BlockingIOError):
                silent.accept()


def test_the_system_looks_after_connections_that_are_idle(
    server: RedisServer, stack: ExitStack
) -> None:
    here = hub(stack, server.url)
    here.send("a", "x")
    bus: Any = here._bus
    connection = bus._commands.client.connection_pool.get_connection()
    sock = connection._sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_a_redis_that_is_down_from_the_start_is_logged_once(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.kill()
    here = hub(stack, server.url, history=History())
    session, peer = make_session()
    with here.join("a", session, after="00000000-1-1", member="ann", info=1) as joined:
        assert joined.gap
        assert here.send_json("a", {"x": 1}) is None
        assert peer.receive() == '{"x":1}'
        assert (here.count("a"), here.presence("a"), here.history("a")) == (1, {"ann": 1}, [])
        here.disconnect("a", 1008, "out")
        assert peer.answer_close() == (1008, "out")
    # Of the two threads that have noticed, the first one logs it; it may do so a little later.
    wait_until(lambda: "the hub can not reach its bus" in caplog.text)
    assert caplog.text.count("the hub can not reach its bus") == 1
    assert here.undelivered == 2


def test_a_redis_that_refuses_the_password_is_logged(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("requirepass", "secret")
    here = hub(stack, server.url)
    with here.join("a", make_session()[0]):
        wait_until(lambda: "can not reach its bus" in caplog.text)
        assert "auth" in caplog.text.lower()
    assert "secret" not in caplog.text


def test_the_hub_works_after_a_thread_could_not_be_started(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = hub(stack, server.url)
    session, peer = make_session()
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "syncws hub":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            here.join("a", session)
    assert here.members("a") == []
    with here.join("a", session):
        here.send("a", "x")
        assert peer.receive() == "x"
        assert here.count("a") == 1


@pytest.mark.parametrize("history", [None, History()], ids=["without", "with"])
def test_f6_a_bus_that_is_away_ends_no_session(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    history: History | None,
) -> None:
    """Killed, and started again empty."""
    here, there = (hub(stack, server.url, history=history) for _ in range(2))
    (first, one), (second, two) = make_session(), make_session()

    joined = threading.Barrier(3)

    def handler(hub: Hub, session: Session) -> None:
        with hub.join("a", session, member="m", info=None):
            joined.wait(PATIENCE)
            for message in session:
                hub.send("a", message)
                hub.count("a")
                hub.presence("a")

    handlers = [
        Background(first.run, lambda s: handler(here, s)),
        Background(second.run, lambda s: handler(there, s)),
    ]
    joined.wait(PATIENCE)
    one.send("hello")
    assert one.receive() == two.receive() == "hello"
    server.kill()
    one.send("alone")
    assert one.receive() == "alone"
    wait_until(lambda: here.undelivered == 1)
    server.start()
    wait_until(lambda: here.connected and there.connected and here.count("a") == 2)
    assert there.presence("a") == {"m": None}
    two.send("together again")
    assert one.receive() == two.receive() == "together again"
    for peer in (one, two):
        peer.send_close()
    for each in handlers:
        each.result()
    assert here.gaps == there.gaps == 1


def test_a_redis_that_was_wiped_is_told_again_who_is_here(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "ALIVE_EVERY", 0.05)
    here, there = hub(stack, server.url), hub(stack, server.url)
    with (
        redis.Redis.from_url(server.url) as client,
        here.join("a", make_session()[0], member="ann"),
    ):
        client.flushall()
        wait_until(lambda: there.count("a") == 1)
        wait_until(lambda: there.presence("a") == {"ann": None})


def test_f4_those_in_this_process_are_listed_though_redis_was_wiped(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here = hub(stack, server.url)
    with (
        redis.Redis.from_url(server.url) as client,
        here.join("a", make_session()[0], member="ann", info=1),
    ):
        client.flushall()
        assert here.presence("a") == {"ann": 1}, "before the next sign of life, after 10 s"
        assert here.count("a") == 1


def test_workers_of_the_version_before_are_noticed(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis.Redis.from_url(server.url) as client, client.pubsub() as pubsub:
        pubsub.subscribe("syncws:1:process:" + "0" * 32)
        assert pubsub.get_message(timeout=PATIENCE)
        here = hub(stack, server.url)
        with here.join("a", make_session()[0]):
            wait_until(lambda: "a version of syncws before" in caplog.text)


def test_a_later_format_is_refused_with_one_line(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = hub(stack, server.url)
    session, peer = make_session()
    with redis.Redis.from_url(server.url) as client, here.join("a", session):
        for _ in range(3):
            client.publish("syncws:2:0::{room:a}", b"3 whatever\n...")
        # Fields that a later version appends to the header are skipped.
        header = b"i" * 16 + b"n" * 8 + bytes(16) + b"t" + b"new field"
        client.publish("syncws:2:0::{room:a}", b"2\n" + bytes([len(header)]) + header + b"fine")
        assert peer.receive() == "fine"
    assert caplog.text.count("does not know") == 1


def test_databases_and_prefixes_are_apart(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    base = f"redis://127.0.0.1:{server.port}"
    history = History()
    hubs = [
        hub(stack, f"{base}/0", history=history),
        hub(stack, f"{base}/1", history=history),
        hub(stack, f"{base}/0", history=history, prefix="shop"),
        hub(stack, f"{base}/0", history=history, prefix="shop:{x}"),
    ]
    made = [make_session() for _ in hubs]
    rooms = ["a", "", "}", "{a}", "a}:counts"]
    for room in rooms:
        for number, (each, (session, _)) in enumerate(zip(hubs, made, strict=True)):
            stack.enter_context(each.join(room, session, member=number))
        for number, (each, (_, peer)) in enumerate(zip(hubs, made, strict=True)):
            each.send(room, f"{room} {number}")
            assert peer.receive() == f"{room} {number}"
            assert each.count(room) == 1
            assert each.presence(room) == {str(number): None}
            assert each.history(room) == [f"{room} {number}"]


def test_no_connection_is_left_when_the_hub_is_closed(
    server: RedisServer, make_session: MakeSession
) -> None:
    made = Hub(server.url, history=History())
    with made.join("a", make_session()[0]):
        made.send("a", "x")
    made.close()
    assert isinstance(made._bus, RedisBus)
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: len(client.client_list()) == 1)


def test_who_joins_while_the_bus_is_away_misses_nothing(
    server: RedisServer, proxy: Proxy, stack: ExitStack, make_session: MakeSession
) -> None:
    """Commands get through before the subscription does."""
    here, there = (hub(stack, url, history=History()) for url in (proxy.url, server.url))
    (first, one), (second, two), (third, three) = (make_session() for _ in range(3))
    sent = [there.send("a", str(number)) for number in range(3)]
    listener: Any = getattr(here._bus, "_listener")  # noqa: B009  # of the bus over Redis
    listen, let = listener._listen, threading.Event()

    def late() -> None:
        if not let.is_set():
            raise redis.ConnectionError("as it was told")
        listen()

    listener._listen = late
    with here.join("a", first, after=sent[0]) as joined, here.join("a", second):
        assert not joined.gap
        there.send("a", "3")
        with here.join("a", third, after=sent[1]):
            there.send("a", "4")
            let.set()
            wait_until(lambda: here.connected)
            there.send("a", "5")
            assert [one.receive() for _ in range(5)] == ["1", "2", "3", "4", "5"]
            assert [three.receive() for _ in range(4)] == ["2", "3", "4", "5"]
            assert [two.receive() for _ in range(3)] == ["3", "4", "5"]
        assert not joined.gap
