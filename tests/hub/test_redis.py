"""Rooms over Redis: several hubs, several processes, a bus that comes and goes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import redis

from syncws import (
    History,
    Hub,
    HubError,
    PreparedMessage,
    Session,
)
from syncws.hub import redis_listener, wire
from syncws.hub.history import to_message
from syncws.hub.redis_bus import RedisBus
from syncws.hub.redis_commands import TIMEOUT
from syncws.hub.wire import Envelope

from ..conftest import MakeSession
from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE, Peer
from ..support.redis_server import RedisServer
from ..support.servers import ROOT


def hub(stack: ExitStack, server: RedisServer, **options: Any) -> Hub:
    made = Hub(server.url, **options)
    stack.callback(made.close)
    return made


def test_hubs_with_one_address_are_one(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here, there = hub(stack, server), hub(stack, server)
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first), there.join("a", second):
        here.send("a", "text")
        there.send("a", b"\x00binary")
        assert [one.receive(), one.receive()] == ["text", b"\x00binary"], "once each"
        assert [two.receive(), two.receive()] in (
            ["text", b"\x00binary"],
            [b"\x00binary", "text"],  # its own comes first, at times
        )
        there.send("a", PreparedMessage("prepared"), exclude=second)
        assert one.receive() == "prepared"
        assert here.count("a") == there.count("a") == 2
        assert here.members("a") == [first]
    wait_until(lambda: here.count("a") == 0)


def test_order_of_one_sender(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here, there = hub(stack, server), hub(stack, server)
    session, peer = make_session()
    with there.join("a", session):
        sender = Background(lambda: [here.send("a", str(n)) for n in range(300)])
        assert [peer.receive() for _ in range(300)] == [str(n) for n in range(300)]
        sender.result()


def test_a_message_is_kept_without_reading_those_before_it(
    server: RedisServer, stack: ExitStack
) -> None:
    """They may be large, and many."""
    sender = hub(stack, server, history=History(messages=5))
    with redis.Redis.from_url(server.url) as client:
        for number in range(20):
            sender.send("a", str(number))
        assert client.info("commandstats")["cmdstat_xrange"]["calls"] == 1
    assert sender.history("a") == [str(number) for number in range(15, 20)]


def test_messages_that_are_too_old_are_removed(server: RedisServer, stack: ExitStack) -> None:
    sender = hub(stack, server, history=History(messages=100_000, seconds=0.05))
    sent = 0
    with redis.Redis.from_url(server.url) as client:

        def removed() -> bool:
            nonlocal sent
            sender.send("a", "x")
            sent += 1
            return bool(client.xlen("syncws:2:0::{room:a}:log") < sent - 1)

        wait_until(removed)


def test_who_only_sends_needs_no_thread(server: RedisServer, stack: ExitStack) -> None:
    sender = hub(stack, server)
    sender.send("a", "to nobody")
    assert not [t for t in threading.enumerate() if t.name == "syncws hub"]


def test_only_rooms_with_members_here_are_subscribed_to(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here = hub(stack, server)
    session, _ = make_session()
    with redis.Redis.from_url(server.url) as client:

        def channels() -> set[bytes]:
            return {name for name in client.pubsub_channels() if b"room:" in name}

        with here.join("a", session):
            assert channels() == {b"syncws:2:0::{room:a}"}
            with here.join("b", session):
                assert channels() == {b"syncws:2:0::{room:a}", b"syncws:2:0::{room:b}"}
            wait_until(lambda: channels() == {b"syncws:2:0::{room:a}"})
        wait_until(lambda: channels() == set())


def test_a_script_without_sessions_sends(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here = hub(stack, server)
    session, peer = make_session()
    with here.join("a", session):
        code = f"import syncws; syncws.Hub({server.url!r}).send('a', 'from elsewhere')"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        assert peer.receive() == "from elsewhere"


def test_without_its_bus_a_room_goes_on_here_and_says_so(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, there = (hub(stack, server, on_bus_lost="raise") for _ in range(2))
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first), there.join("a", second):
        server.kill()
        with pytest.raises(HubError, match="this process only"):
            here.send("a", "for those here")
        assert one.receive() == "for those here"
        with pytest.raises(HubError, match="can not be reached"):
            here.count("a")
        wait_until(lambda: here.gaps == there.gaps == 1)
        assert "the hub has lost its bus" in caplog.text
        assert not here.connected
        server.start()
        # They come back by themselves, each when it has noticed.
        heard: list[object] = []

        def listen(peer: Peer) -> None:
            while (message := peer.receive()) != "over":
                heard.append(message)

        listening = Background(listen, two)

        def send() -> bool:
            with suppress(HubError):
                here.send("a", "again")
            return "again" in heard

        wait_until(send)
        here.send("a", "over")
        listening.result()
        wait_until(lambda: here.count("a") == 2)


def test_joining_while_the_bus_is_away(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "SUBSCRIBE_TIMEOUT", 0.05)
    here, there = hub(stack, server, on_bus_lost="raise"), hub(stack, server)
    session, peer = make_session()
    server.kill()
    with here.join("a", session):
        with pytest.raises(HubError):
            here.send("a", "here")
        assert peer.receive() == "here"
        server.start()
        wait_until(lambda: there.count("a") == 1)
        there.send("a", "over the bus")
        assert peer.receive() == "over the bus"


def test_nobody_waits_for_a_bus_that_hangs_to_leave(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here = hub(stack, server)
    joined, leave = threading.Barrier(5), threading.Event()

    def member(session: Session) -> None:
        with here.join("a", session):
            joined.wait(PATIENCE)
            assert leave.wait(PATIENCE)

    members = [Background(member, make_session()[0]) for _ in range(4)]
    joined.wait(PATIENCE)
    server.hang()
    leave.set()
    for each in members:
        each.result(TIMEOUT / 2)
    assert here.members("a") == []
    server.kill()  # what hangs there is over


def test_what_goes_wrong_with_one_message_or_room_is_no_matter_to_others(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, there = hub(stack, server), hub(stack, server)
    session, peer = make_session()

    class Cursed(PreparedMessage):
        @property
        def frame(self) -> bytes:
            raise LookupError("as it was told")

        @frame.setter
        def frame(self, frame: bytes) -> None: ...

    def prepared(envelope: Envelope, *also: Any) -> PreparedMessage | None:
        return Cursed("x") if envelope.data == "cursed" else to_message(envelope, *also)

    monkeypatch.setattr("syncws.hub.sending.to_message", prepared)
    with here.join("a", session):
        with pytest.raises(ValueError, match="UTF-8 can not express"), here.join("\ud800", session):
            pass
        there.send("a", "cursed")
        there.send("a", "fine")
        assert peer.receive() == "fine"
    assert "a message to 'a' could not be delivered" in caplog.text
    assert here.gaps == 0


def test_a_room_that_is_left_and_joined_again_misses_nothing(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    """A late confirmation of a subscription is not taken for another one."""
    here, there = hub(stack, server), hub(stack, server)
    session, peer = make_session()
    for number in range(200):
        with here.join("a", session):
            there.send("a", str(number))
            assert peer.receive() == str(number)


def test_a_flood_of_messages_keeps_nobody_from_being_told(
    monkeypatch: pytest.MonkeyPatch, server: RedisServer, stack: ExitStack
) -> None:
    bus = hub(stack, server)._bus
    assert isinstance(bus, RedisBus)
    listener, told = bus._listener, 0

    def tell() -> None:
        nonlocal told
        told += 1
        listener._closed = told > 2

    monkeypatch.setattr(listener, "_tell", tell)
    monkeypatch.setattr(listener, "_take_next", lambda: True)
    listener._listen()
    assert told == 3
    listener._links.close()


def test_what_redis_could_not_be_told_it_is_told_later(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = hub(stack, server), hub(stack, server)
    (first, _), (second, _) = make_session(), make_session()
    bus = here._bus
    assert isinstance(bus, RedisBus)
    run_all = bus._commands.run_all
    failures = [redis.ConnectionError("as it was told")]

    def failing(calls: list[Any]) -> list[Any]:
        if any(arguments[1] == 0 for _, _, arguments in calls) and failures:
            raise failures.pop()
        return run_all(calls)

    monkeypatch.setattr(bus._commands, "run_all", failing)
    with there.join("a", second):
        with here.join("a", first):
            wait_until(lambda: there.count("a") == 2)
        wait_until(lambda: there.count("a") == 1)
    assert not failures


def test_members_of_a_process_that_died_are_forgotten(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_listener, "ALIVE_EVERY", 0.05)
    here = hub(stack, server)
    session, _ = make_session()
    with redis.Redis.from_url(server.url) as client, here.join("a", session):
        dead, alive, key = "00" * 16, here._bus.process.hex(), "syncws:2:0::{room:a}:counts"
        now = int(client.time()[0]) * 1000
        client.hset(key, dead, f"5 {now + 60_000}")
        assert here.count("a") == 6
        client.hset(key, dead, f"5 {now - 1000}")
        assert here.count("a") == 1
        assert not client.hexists(key, dead)

        # One that is alive says so again and again.
        def ends() -> int:
            return int(str(client.hget(key, alive)).strip("b'").split()[1])

        for _ in range(3):
            before = ends()
            wait_until(lambda before=before: ends() > before)  # type: ignore[misc]  # mypy can not infer it
        assert hub(stack, server).count("a") == 1


def published(kind: bytes, payload: bytes, line: bytes = b"2\n") -> bytes:
    return line + Envelope(kind, payload, b"i" * 16).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"2\n",
        b"2\n\xff" + b"i" * 40,
        published(b"?", b"what"),
        published(b"t", b"\xff"),
        published(b"x", b"[]"),
        published(b"x", b'{"code": 1005, "reason": ""}'),
        published(b"j", b"{", b"2 00000000 99999999999999999999 1 1\n"),
        b"\x80\x04}",
    ],
)
def test_strangers_can_send_messages_and_nothing_else(
    server: RedisServer, stack: ExitStack, make_session: MakeSession, data: bytes
) -> None:
    here = hub(stack, server)
    session, peer = make_session()
    with redis.Redis.from_url(server.url) as client, here.join("a", session):
        client.publish("syncws:2:0::{room:a}", data)
        client.publish("syncws:2:0::{room:a}", published(b"t", b"fine"))
        assert peer.receive() == "fine"


def test_a_message_too_large_for_the_bus(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_SIZE", 10)
    here = hub(stack, server)
    session, peer = make_session()
    with here.join("a", session):
        with pytest.raises(HubError, match="11 bytes is too large"):
            here.send("a", "x" * 11)
        assert peer.receive() == "x" * 11
        with redis.Redis.from_url(server.url) as client:
            client.publish("syncws:2:0::{room:a}", published(b"t", b"x" * 11))
        here.send("a", "fine")
        assert peer.receive() == "fine"


def test_a_closed_hub_sends_nowhere_else(server: RedisServer, make_session: MakeSession) -> None:
    closed = Hub(server.url)
    session, peer = make_session()
    with closed.join("a", session):
        closed.close()
        with pytest.raises(HubError, match="closed"):
            closed.send("a", "here")
        assert peer.receive() == "here"
    assert not [t for t in threading.enumerate() if t.name == "syncws hub"]


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # which is the point
)
def test_a_hub_made_before_a_fork_works_in_the_child(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here = hub(stack, server)
    session, peer = make_session()
    with here.join("a", session):
        here.send("a", "parent")
        child = os.fork()
        if child == 0:
            here.send("a", "child")
            os._exit(len(here.members("a")))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "members are the parent's"
        assert peer.receive() == "parent"
        assert peer.receive() == "child"
        here.send("a", "once each")
        assert peer.receive() == "once each"


def test_redis_py_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "syncws.hub.redis_bus", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'syncws\[redis\]'"):
        Hub("redis://localhost")
