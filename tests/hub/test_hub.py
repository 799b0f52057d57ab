"""Rooms, in one process."""

from __future__ import annotations

import os
from typing import Any

import pytest

from syncws import (
    History,
    Hub,
    HubError,
    PreparedMessage,
    RawSession,
    Session,
)
from syncws.hub import members as hub_members
from syncws.hub.wire import TOKEN

from ..conftest import MakeSession
from ..support.background import BIG, Background
from ..support.pairs import PATIENCE, Peer


def members(make_session: MakeSession, number: int) -> list[tuple[Session, Peer]]:
    return [make_session(timeout=PATIENCE) for _ in range(number)]


def test_everybody_in_the_room_gets_a_message(make_session: MakeSession) -> None:
    hub = Hub()
    (first, one), (second, two), (third, three) = members(make_session, 3)
    with hub.join("a", first), hub.join("a", second), hub.join("b", third):
        hub.send("a", "text")
        hub.send("b", b"binary")
        hub.send("a", PreparedMessage("prepared"), exclude=first)
        hub.send("nobody", "there")
        assert [one.receive(), two.receive(), two.receive()] == ["text", "text", "prepared"]
        assert three.receive() == b"binary"
        assert (hub.count("a"), hub.count("b"), hub.count("nobody")) == (2, 1, 0)
        assert hub.members("a") == [first, second]
    hub.send("a", "too late")
    first.send("direct")
    assert one.receive() == "direct"
    assert (hub.count("a"), hub.members("a")) == (0, [])


def test_joining_twice_is_leaving_twice(make_session: MakeSession) -> None:
    hub = Hub()
    ((session, peer),) = members(make_session, 1)
    with hub.join("a", session):
        with hub.join("a", session), hub.join("b", session):
            hub.send("a", "once")
            hub.send("b", "in another room too")
        assert hub.count("a") == 1
        hub.send("a", "still there")
    assert [peer.receive() for _ in range(3)] == ["once", "in another room too", "still there"]
    assert hub.count("a") == 0


def test_a_handler_that_raises_leaves(make_session: MakeSession) -> None:
    hub = Hub()
    ((session, _),) = members(make_session, 1)

    def fail() -> None:
        with hub.join("a", session):
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert hub.members("a") == []


def test_messages_of_one_sender_arrive_in_order(make_session: MakeSession) -> None:
    hub = Hub(queue=10_000)
    both = members(make_session, 2)
    with hub.join("a", both[0][0]), hub.join("a", both[1][0]):

        def send(name: str) -> None:
            for number in range(100):
                hub.send("a", f"{name} {number}")

        senders = [Background(send, name) for name in "abc"]
        for _, peer in both:
            received = [str(peer.receive()) for _ in range(300)]
            for name in "abc":
                assert [m for m in received if m[0] == name] == [f"{name} {n}" for n in range(100)]
        for sender in senders:
            sender.result()


def test_a_slow_member_holds_up_nobody_and_is_disconnected(make_session: MakeSession) -> None:
    hub = Hub(queue=5)
    (slow, slow_peer), (quick, quick_peer) = members(make_session, 2)
    with hub.join("a", slow), hub.join("a", quick):
        slow._writer.offer(PreparedMessage(BIG), 1)
        for number in range(6):
            hub.send("a", str(number))
            assert quick_peer.receive() == str(number)
        assert hub.dropped == {"disconnect": 1}
        assert slow_peer.receive() == BIG
        assert slow_peer.answer_close() == (1013, "reads too slowly")
        assert slow.wait_closed(PATIENCE).cause == "send_timeout"
        hub.send("a", "afterwards")
        assert quick_peer.receive() == "afterwards"


@pytest.mark.parametrize(
    ("on_full", "kept"),
    [("drop_oldest", ["2", "3", "4", "5", "6"]), ("drop_newest", ["0", "1", "2", "3", "4"])],
)
def test_messages_that_are_left_out_are_counted(
    make_session: MakeSession, on_full: str, kept: list[str]
) -> None:
    hub = Hub(queue=5, on_full=on_full)  # type: ignore[arg-type]  # one of them, not any str
    ((slow, peer),) = members(make_session, 1)
    with hub.join("a", slow):
        slow._writer.offer(PreparedMessage(BIG), 1)
        for number in range(7):
            hub.send("a", str(number))
        assert hub.dropped == {on_full: 2}
        assert peer.receive() == BIG
        assert [peer.receive() for _ in range(5)] == kept
        hub.send("a", "again")
        assert peer.receive() == "again"


def test_a_member_whose_session_has_ended_takes_nothing(make_session: MakeSession) -> None:
    hub = Hub()
    (gone, _), (stays, peer) = members(make_session, 2)
    with hub.join("a", gone), hub.join("a", stays):
        gone.terminate()
        hub.send("a", "x")
        assert peer.receive() == "x"
    assert hub.dropped == {}


def test_what_is_no_message_and_who_can_be_no_member(raw_and_peer: tuple[RawSession, Peer]) -> None:
    hub = Hub()
    with pytest.raises(ValueError, match="UTF-8 can not express"):
        hub.send("\ud800", "x")
    with pytest.raises(TypeError, match="the name of a room is a str"):
        hub.count(5)  # type: ignore[arg-type]  # as a user might
    for message in (5, [1], {"a": 1}, None):
        with pytest.raises(TypeError, match="a message for many is str or bytes-like"):
            hub.send("room", message)  # type: ignore[arg-type]  # as a user might
    member: Any = raw_and_peer[0]
    with pytest.raises(TypeError, match=r"is a Session, not a raw one: .* leave raw=True out"):
        hub.join("a", member)
    with pytest.raises(TypeError, match=r"exclude is .* not a raw one: .* leave raw=True out"):
        hub.send("a", "x", exclude=member)
    member = object()
    with pytest.raises(TypeError, match="a member of a room is a Session, not <object"):
        hub.join("a", member)
    assert hub.members("a") == []


def test_options_that_can_not_be() -> None:
    with pytest.raises(ValueError, match="queue is at least 1"):
        Hub(queue=0)
    with pytest.raises(ValueError, match='"disconnect", "drop_oldest" or "drop_newest"'):
        Hub(on_full="wait")  # type: ignore[arg-type]  # as a user might
    for queue in ("5", 1.5, True):
        with pytest.raises(TypeError, match="queue is a whole number of messages"):
            Hub(queue=queue)  # type: ignore[arg-type]  # as a user might
    with pytest.raises(TypeError, match='url is an address, such as "redis://localhost:6379/0"'):
        Hub(6379)  # type: ignore[arg-type]  # as a user might
    assert Hub().gaps == 0


def test_arguments_that_can_not_be(make_session: MakeSession) -> None:
    hub = Hub(history=History())
    ((session, _),) = members(make_session, 1)
    with hub.join("a", session) as joined:
        with pytest.raises(TypeError, match=r"exclude is a Session, or None, not <.*Joined"):
            hub.send("a", "text", exclude=joined)  # type: ignore[arg-type]  # as a user might
        with pytest.raises(TypeError, match="exclude is a Session, or None, not 'ann'"):
            hub.disconnect("a", exclude="ann")  # type: ignore[arg-type]  # as a user might
    with pytest.raises(TypeError, match=r"limit is a whole number of messages, .* not 1\.5"):
        hub.history("a", limit=1.5)  # type: ignore[arg-type]  # as a user might
    with pytest.raises(TypeError, match="on_presence takes a function of room, joined, left"):
        hub.on_presence("changed")  # type: ignore[arg-type]  # as a user might


@pytest.mark.parametrize("history", [None, History()])
def test_a_closed_hub_in_memory_says_that_it_is_closed(
    make_session: MakeSession, history: History | None
) -> None:
    hub = Hub(history=history)
    ((session, peer),) = members(make_session, 1)
    with hub.join("a", session):
        hub.close()
        assert not hub.connected
        with pytest.raises(HubError, match="the hub is closed"):
            hub.send("a", "here")
        assert peer.receive() == "here"
        with pytest.raises(HubError, match="the hub is closed"):
            hub.count("a")
        with pytest.raises(HubError, match="the hub is closed"):
            hub.presence("a")
        if history is not None:
            with pytest.raises(HubError, match="the hub is closed"):
                hub.history("a")


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # which is the point
)
def test_a_fork_while_another_thread_joins_leaves_the_child_able_to_join(
    make_session: MakeSession,
) -> None:
    session, _ = make_session()
    with hub_members._tokens_lock:  # as another thread might hold it
        child = os.fork()
        if child == 0:
            os._exit(0 if hub_members._tokens_lock.acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(hub_members.token_of(session)) == TOKEN
