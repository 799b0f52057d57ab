"""Who is there, who came and went, and who has to go."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from syncws import History, Hub, PreparedMessage
from syncws.hub import presence, redis_listener

from ..conftest import MakeSession
from ..support.background import BIG, Background, wait_until
from ..support.pairs import PATIENCE
from ..support.redis_server import RedisServer
from ..support.servers import ROOT
from .conftest import MakeHub

Changes = queue.Queue[tuple[str, dict[str, Any], dict[str, Any]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LOOK_EVERY", 0.005)


def changes_of(hub: Hub) -> Changes:
    changes: Changes = queue.Queue()

    @hub.on_presence
    def changed(room: str, joined: dict[str, Any], left: dict[str, Any]) -> None:
        changes.put((room, joined, left))

    return changes


def test_f4_who_is_there(make_hub: MakeHub, make_session: MakeSession) -> None:
    here, there = make_hub(presence_grace=0), make_hub(presence_grace=0)
    (first, _), (second, _), (third, _) = (make_session() for _ in range(3))
    assert here.presence("a") == {}
    with here.join("a", first, member="ann", info={"name": "Ann ä"}):
        assert here.presence("a") == there.presence("a") == {"ann": {"name": "Ann ä"}}
        with there.join("a", second, member=7), there.join("a", third):
            assert here.presence("a") == {"ann": {"name": "Ann ä"}, "7": None}
            assert there.count("a") == 3
            assert here.presence("b") == {}
        wait_until(lambda: list(here.presence("a")) == ["ann"])
    wait_until(lambda: there.presence("a") == {})


def test_f4_who_came_and_went(make_hub: MakeHub, make_session: MakeSession) -> None:
    here, there = make_hub(presence_grace=0), make_hub(presence_grace=0)
    changes = changes_of(here)
    (first, _), (second, _), (third, _) = (make_session() for _ in range(3))
    with here.join("a", first, member="ann", info=1):
        assert changes.get(timeout=PATIENCE) == ("a", {"ann": 1}, {})
        with there.join("a", second, member="bob", info=2):
            assert changes.get(timeout=PATIENCE) == ("a", {"bob": 2}, {})
            with here.join("a", third, member="bob", info=2):
                pass  # a second session of one member is no news
        assert changes.get(timeout=PATIENCE) == ("a", {}, {"bob": 2})
    assert changes.empty()


def test_a_member_that_is_back_in_time_was_not_away(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    here, there = (make_hub(presence_grace=0.3) for _ in range(2))
    changes = changes_of(here)
    (first, _), (second, _) = make_session(), make_session()
    with here.join("a", first, member="ann"):
        assert changes.get(timeout=PATIENCE) == ("a", {"ann": None}, {})
        with there.join("a", second, member="bob"):
            assert changes.get(timeout=PATIENCE) == ("a", {"bob": None}, {})
        with here.join("a", second, member="bob"):
            assert set(here.presence("a")) == {"ann", "bob"}
        assert set(here.presence("a")) == {"ann", "bob"}, "for a while"
        assert changes.get(timeout=PATIENCE) == ("a", {}, {"bob": None}), "and no other change"
        assert here.presence("a") == {"ann": None}


def test_a_callback_that_fails_is_logged_and_called_again(
    make_hub: MakeHub, make_session: MakeSession, caplog: pytest.LogCaptureFixture
) -> None:
    hub = make_hub(presence_grace=0)
    called: queue.Queue[str] = queue.Queue()

    @hub.on_presence
    def fails(room: str, joined: dict[str, Any], left: dict[str, Any]) -> None:
        called.put(room)
        raise LookupError("as it was told")

    changes = changes_of(hub)
    for room in ("a", "b"):
        with hub.join(room, make_session()[0], member="ann"):
            assert called.get(timeout=PATIENCE) == room
            assert changes.get(timeout=PATIENCE)[0] == room
    assert caplog.text.count("an on_presence callback for") >= 2


@pytest.mark.parametrize("lose", ["restart", "wipe"])
def test_f4_nobody_has_left_when_redis_has_lost_the_members(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
    lose: str,
) -> None:
    """The processes tell it again who is there, one after the other."""
    for constant in ("LOOK_ANYWAY", "LOOK_AGAIN"):
        monkeypatch.setattr(presence, constant, 0.02)
    monkeypatch.setattr(redis_listener, "ALIVE_EVERY", 0.02)
    monkeypatch.setattr(redis_listener, "DOUBT", 60.0)
    here, there = Hub(server.url), Hub(server.url)
    stack.callback(here.close)
    stack.callback(there.close)
    changes = changes_of(here)
    watcher: Any = here._watcher
    present, looks = watcher._present, queue.Queue[set[str]]()

    def look(room: str) -> Any:
        found = present(room)
        looks.put(set(found.members))
        return found

    watcher._present = look

    def looked(*members: str) -> None:
        """Redis has said a few times that these are the members."""
        for _ in range(3):
            wait_until(lambda: looks.get(timeout=PATIENCE) == set(members))

    listener: Any = getattr(there._bus, "_listener")  # noqa: B009  # of the bus over Redis
    let, write = threading.Event(), listener._write

    def late(*told: Any) -> None:
        if not let.is_set():
            raise redis.ConnectionError("as it was told")
        write(*told)

    with here.join("a", make_session()[0], member="ann"):
        assert changes.get(timeout=PATIENCE) == ("a", {"ann": None}, {})
        with there.join("a", make_session()[0], member="bob"):
            assert changes.get(timeout=PATIENCE) == ("a", {"bob": None}, {})
            listener._write = late
            if lose == "restart":
                server.kill()
                server.start()
            else:
                with redis.Redis.from_url(server.url) as client:
                    client.flushall()
            looked("ann")
            let.set()
            looked("ann", "bob")
            assert changes.empty()


def test_those_who_do_not_come_back_have_left(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for constant in ("LOOK_ANYWAY", "LOOK_AGAIN"):
        monkeypatch.setattr(presence, constant, 0.02)
    monkeypatch.setattr(redis_listener, "ALIVE_EVERY", 0.02)
    monkeypatch.setattr(redis_listener, "DOUBT", 0.1)
    here, there = Hub(server.url), Hub(server.url)
    stack.callback(here.close)
    stack.callback(there.close)
    changes = changes_of(here)
    with here.join("a", make_session()[0], member="ann"):
        assert changes.get(timeout=PATIENCE) == ("a", {"ann": None}, {})
        with there.join("a", make_session()[0], member="bob"):
            assert changes.get(timeout=PATIENCE) == ("a", {"bob": None}, {})
            there.close()
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            assert changes.get(timeout=PATIENCE) == ("a", {}, {"bob": None})


@pytest.mark.load
def test_the_members_of_a_killed_worker_leave(
    server: RedisServer,
    stack: ExitStack,
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence, "LOOK_ANYWAY", 0.05)
    here = Hub(server.url, presence_grace=60)
    stack.callback(here.close)
    changes = changes_of(here)
    code = f"""
import sys, time
from syncws import Hub
from syncws.hub import redis_listener
redis_listener.ALIVE_FOR = 4.0
redis_listener.ALIVE_EVERY = 0.1
from tests.support.sessions import session_with_peer
session, peer = session_with_peer()
Hub({server.url!r}).join("a", session, member="bob", info=1)
print("joined", flush=True)
time.sleep(60)
"""
    with here.join("a", make_session()[0], member="ann"):
        assert changes.get(timeout=PATIENCE) == ("a", {"ann": None}, {})
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"joined\n"
            assert changes.get(timeout=PATIENCE) == ("a", {"bob": 1}, {})
            assert here.count("a") == 2
            os.kill(worker.pid, signal.SIGKILL)
            assert changes.get(timeout=PATIENCE) == ("a", {}, {"bob": 1})
            assert (here.count("a"), list(here.presence("a"))) == (1, ["ann"])


def test_members_that_can_not_be(make_session: MakeSession) -> None:
    hub, (session, _) = Hub(), make_session()
    with pytest.raises(TypeError, match="not JSON serializable"):
        hub.join("a", session, member="ann", info={1, 2})
    with pytest.raises(ValueError, match="the name of a member"):
        hub.join("a", session, member="\ud800")
    assert hub.members("a") == []


def test_joining_by_hand(make_hub: MakeHub, make_session: MakeSession) -> None:
    hub = make_hub(presence_grace=0)
    session, peer = make_session()
    joined = hub.join("a", session, member="ann")
    assert hub.members("a") == [session]
    hub.send("a", "x")
    assert peer.receive() == "x"
    joined.leave()
    joined.leave()
    assert hub.members("a") == []
    wait_until(lambda: hub.presence("a") == {})
    joined = hub.join("a", session)
    with joined:
        pass
    assert (hub.count("a"), hub.members("a")) == (0, [])


def test_a_session_that_ends_leaves_by_itself(make_hub: MakeHub, make_session: MakeSession) -> None:
    hub = make_hub(presence_grace=0)
    (session, peer), (stays, _) = make_session(), make_session()
    hub.join("a", stays)
    joined = [hub.join(room, session, member="ann") for room in ("a", "a", "b")]
    peer.close_socket()
    session.run(lambda session: session.receive())
    wait_until(lambda: (hub.members("a"), hub.members("b")) == ([stays], []))
    wait_until(lambda: hub.presence("a") == {})
    for each in joined:
        each.leave()
    assert hub.count("a") == 1
    hub.join("a", session)
    wait_until(lambda: hub.members("a") == [stays])  # it has ended before


def test_f4_the_info_is_that_of_a_session_that_is_there(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    """A member with several sessions: the newest of those that are left counts."""
    hub = make_hub()
    changes = changes_of(hub)
    joined = [
        hub.join("a", make_session()[0], member="ann", info=info)
        for info in ("one", "two", "three")
    ]
    assert changes.get(timeout=PATIENCE)[0] == "a"
    assert hub.presence("a") == {"ann": "three"}
    joined[1].leave()
    joined[2].leave()
    wait_until(lambda: hub.presence("a") == {"ann": "one"})
    assert changes.empty(), "nobody has come or gone"


def test_f5_sessions_are_ended_from_any_process(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    for code, reason in ((1008, "logged out"), (4000, "ä" * 60)):
        here, there = make_hub(), make_hub()
        (first, one), (second, two), (third, three) = (make_session() for _ in range(3))
        here.join("user", first)
        there.join("user", second)
        there.join("user", third)
        here.send("user", "before")
        here.disconnect("user", code, reason, exclude=third)
        for peer in (one, two):
            assert peer.receive() == "before"
            assert peer.answer_close() == (code, reason)
        assert first.wait_closed(PATIENCE).cause == "local"
        later, peer = make_session()
        here.join("user", later)
        here.send("user", "after")
        assert peer.receive() == "after", "who joins later stays"
        assert [three.receive(), three.receive()] == ["before", "after"]


def test_f5_what_was_kept_before_comes_before_the_close(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    """With a history over Redis a message comes back by another thread than the disconnect's."""
    here, there = (make_hub(history=History(stamp=slow)) for _ in range(2))
    (first, one), (second, two) = make_session(), make_session()
    here.join("user", first)
    there.join("user", second)
    here.send("user", "before")
    here.disconnect("user", 1008, "logged out")
    for peer in (one, two):
        assert peer.receive() == "before"
        assert peer.answer_close() == (1008, "logged out")


def slow(message: str | bytes, _: str) -> str | bytes:
    """A message takes its time on its way to the members."""
    time.sleep(0.1)
    return message


def test_f5_a_member_that_is_blocked_is_ended_too(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    here, there = make_hub(), make_hub()
    session, _ = make_session(close_timeout=0.2, timeout=60)
    with here.join("user", session):
        sending = Background(session.send, BIG)
        wait_until(lambda: session._traffic().bytes_sent)
        there.disconnect("user", 1008, "logged out")
        assert sending.error() is not None
        assert session.wait_closed(PATIENCE).code == 1008


def test_ends_that_can_not_be() -> None:
    hub = Hub()
    with pytest.raises(ValueError, match="close code 1005"):
        hub.disconnect("a", 1005)
    with pytest.raises(TypeError, match="reason is a str"):
        hub.disconnect("a", 1008, b"x")  # type: ignore[arg-type]  # as a user might
    with pytest.raises(ValueError, match="not both"):
        Hub("redis://localhost", client=object())
    with pytest.raises(ValueError, match='"warn" or "raise"'):
        Hub(on_bus_lost="ignore")  # type: ignore[arg-type]  # as a user might
    assert Hub().connected


def test_the_oldest_that_are_dropped_are_all_counted(make_session: MakeSession) -> None:
    """Several threads send to a member that reads slowly."""
    hub = Hub(queue=5, on_full="drop_oldest")
    session, peer = make_session(timeout=PATIENCE)
    with hub.join("a", session):
        session._writer.offer(PreparedMessage(BIG), 1)
        start = threading.Barrier(4)

        def send(name: int) -> None:
            start.wait(PATIENCE)
            for number in range(500):
                hub.send("a", f"{name} {number}")

        for sender in [Background(send, name) for name in range(4)]:
            sender.result()
        hub.send("a", "last")
        assert peer.receive() == BIG
        received = 0
        while peer.receive() != "last":
            received += 1
        assert received + 1 + hub.dropped["drop_oldest"] == 2001


def test_hubs_that_are_gone_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a callback for each hub that there ever was, when a process forks."""
    registered: list[Any] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **how: registered.append(how))
    for _ in range(10):
        Hub()
    assert registered == []


def test_rooms_that_members_have_left_are_forgotten(make_session: MakeSession) -> None:
    hub = Hub(presence_grace=0.001)
    session, _ = make_session()
    present: Any = getattr(hub._bus, "_present")  # noqa: B009  # of the bus in memory only
    for number in range(100):
        hub.join(f"room {number}", session, member="ann").leave()

    def forgotten() -> bool:
        with hub.join("another", session, member="ann"):
            return list(present) == ["another"]

    wait_until(forgotten)


def test_f5_a_member_that_is_just_joining_is_ended_too(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    """It is being sent what it has missed."""
    hub = make_hub(history=History())
    session, peer = make_session(ping_interval=None)
    first = hub.send("user", "first")
    hub.send("user", BIG)
    joining = Background(hub.join, "user", session, after=first)
    wait_until(lambda: session._traffic().bytes_sent)
    hub.disconnect("user", 1008, "logged out")
    assert peer.receive() == BIG
    assert peer.answer_close() == (1008, "logged out")
    session.wait_closed(PATIENCE)
    joining.error()
    wait_until(lambda: hub.members("user") == [])
