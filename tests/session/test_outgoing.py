"""The outgoing channel."""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Session

from ..conftest import MakeSession
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.pairs import PATIENCE, Peer

Both = tuple[Session, Peer]


def test_d2_messages_go_out_in_order_from_any_thread(session_and_peer: Both) -> None:
    session, peer = session_and_peer

    def send(name: str) -> list[Future[None]]:
        return [session.outgoing.send(f"{name} {number}") for number in range(50)]

    senders = [Background(send, name) for name in "abcd"]
    received = [str(peer.receive()) for _ in range(200)]
    for sender in senders:
        for future in sender.result():
            assert future.result(PATIENCE) is None
    for name in "abcd":
        assert [m for m in received if m[0] == name] == [f"{name} {n}" for n in range(50)]


def test_d3_each_message_reports_its_own_result(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    fine = session.outgoing.send("fine")
    no_message: Any = {"no": "message"}
    wrong = session.outgoing.send(no_message)
    too = session.outgoing.send("fine too")
    assert fine.result(PATIENCE) is None
    assert isinstance(wrong.exception(PATIENCE), TypeError)
    assert too.result(PATIENCE) is None
    assert (peer.receive(), peer.receive()) == ("fine", "fine too")
    session.terminate()
    with pytest.raises(syncws.ConnectionClosedError) as caught:
        session.outgoing.send("late")
    assert caught.value.session is session


def test_d4_whatever_send_takes(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    buffer = bytearray(b"now")
    begun, go_on = threading.Event(), threading.Event()

    def parts() -> Iterator[str]:
        begun.set()
        assert go_on.wait(PATIENCE)
        yield "parts"

    session.outgoing.send(parts())
    assert begun.wait(PATIENCE)
    session.outgoing.send(buffer)
    numbers = array("B", b"now")
    session.outgoing.send(numbers)  # type: ignore[arg-type]  # bytes-like, which types can not say
    buffer[:] = b"new"
    numbers[0] = 0
    go_on.set()
    assert (peer.receive(), peer.receive(), peer.receive()) == ("parts", b"now", b"now")


def test_whatever_a_message_raises_is_its_result(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    leaving: Iterator[str] = map(sys.exit, [1])
    assert isinstance(session.outgoing.send(leaving).exception(PATIENCE), SystemExit)
    session.outgoing.send("more").result(PATIENCE)
    assert peer.receive() == "more"


def test_c5_a_slow_peer_holds_up_the_channel_and_nobody_else(make_session: MakeSession) -> None:
    slow, slow_peer = make_session()
    other, other_peer = make_session()
    channel = slow.open_outgoing(capacity=2)
    assert channel is slow.outgoing
    # One is being written, two wait.
    futures = [channel.send(BIG) for _ in range(3)]
    with pytest.raises(TimeoutError, match="not sent"):
        channel.send("more", timeout=0.05)
    other.outgoing.send("quick").result(PATIENCE)
    assert other_peer.receive() == "quick"
    waiting = Background(channel.send, "at last")
    for _ in range(3):
        assert slow_peer.receive() == BIG
    waiting.result().result(PATIENCE)
    assert wait_for(futures, PATIENCE).not_done == set()


def test_d2_capacity(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    with pytest.raises(ValueError, match="at least 1"):
        session.open_outgoing(0)
    session.open_outgoing()
    with pytest.raises(RuntimeError, match="open already"):
        session.open_outgoing(5)


def test_no_thread_before_the_channel_is_used(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    before = threading.active_count()
    channel = session.outgoing
    assert threading.active_count() == before
    channel.send("x").result(PATIENCE)
    assert threading.active_count() == before + 1


def test_d2_closing_the_channel_closes_the_session(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    channel = session.open_outgoing(100)
    futures = [channel.send(str(number)) for number in range(50)]
    closing = Background(channel.close)
    for number in range(50):
        assert peer.receive() == str(number)
    assert peer.answer_close() == (1000, "")
    closing.result()
    assert [future.result(PATIENCE) for future in futures] == [None] * 50
    with pytest.raises(syncws.ConnectionClosedOK):
        channel.send("late")


def test_what_can_not_be_flushed_in_time_fails(make_session: MakeSession) -> None:
    session, _ = make_session(timeout=PATIENCE)
    futures = [session.outgoing.send(BIG) for _ in range(3)]
    session.close(timeout=0.1)
    for future in futures:
        assert isinstance(future.exception(PATIENCE), syncws.ConnectionClosed)


@pytest.mark.parametrize("how", ["shutdown", "terminate", "peer"])
def test_the_end_of_the_session_fails_what_waits(make_session: MakeSession, how: str) -> None:
    session, peer = make_session(timeout=PATIENCE, close_timeout=0.2)
    futures = [session.outgoing.send(BIG) for _ in range(5)]
    if how == "shutdown":
        session._start_closing(CloseReason(1001, "", "shutdown"))
    elif how == "terminate":
        session.terminate()
    else:
        peer.send_close(1000)
        received = Background(session.receive)
        assert closed(received).cause == "peer"
    for future in futures:
        assert isinstance(future.exception(PATIENCE), syncws.ConnectionClosed)


def test_senders_to_a_full_channel_learn_of_the_end(make_session: MakeSession) -> None:
    session, _ = make_session(timeout=PATIENCE)
    channel = session.open_outgoing(1)
    for _ in range(2):
        channel.send(BIG)
    waiting = Background(channel.send, "more")
    session.terminate()
    sent = waiting.error()
    # The channel may have accepted the message at the last moment. Then its future fails.
    assert isinstance(sent or waiting.result().exception(PATIENCE), syncws.ConnectionClosed)


def test_endless_timeouts(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.outgoing.send("x")
    closing = Background(session.close, timeout=float("inf"))
    assert peer.receive() == "x"
    peer.answer_close()
    closing.result()


def test_a_callback_that_leaves_ends_no_channel(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.outgoing.send("first").add_done_callback(lambda _: sys.exit(1))
    session.outgoing.send("second").result(PATIENCE)
    assert (peer.receive(), peer.receive()) == ("first", "second")
    session.flush()


def test_a_callback_may_flush(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    flushed: Future[None] = Future()

    def flush(_: object) -> None:
        session.flush()
        flushed.set_result(None)

    hold = threading.Event()

    def parts() -> Iterator[str]:
        assert hold.wait(PATIENCE)
        yield "first"

    sent = session.outgoing.send(parts())
    session.outgoing.send("second")
    sent.add_done_callback(flush)
    hold.set()
    flushed.result(PATIENCE)


def test_a_callback_may_close_the_session(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.outgoing.send("last").add_done_callback(lambda _: session.close(4000))
    assert peer.receive() == "last"
    assert peer.answer_close() == (4000, "")
    assert session.wait_closed(PATIENCE).code == 4000


def test_c10_flush_waits_for_all_that_was_sent_before(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.flush(0)
    futures = [session.outgoing.send(BIG) for _ in range(2)]
    with pytest.raises(TimeoutError):
        session.flush(timeout=0.01)
    flushed = Background(session.flush, PATIENCE)
    for _ in futures:
        assert peer.receive() == BIG
    flushed.result()
    assert all(future.done() for future in futures)


def test_c10_flush_is_allowed_after_close_and_returns_at_once_when_terminated(
    make_session: MakeSession,
) -> None:
    session, peer = make_session()
    session._start_closing(CloseReason(1000))
    session.flush(PATIENCE)
    assert peer.expect_close() == (1000, "")
    session, _ = make_session()
    stuck = Background(session.send, BIG)
    wait_until(lambda: session._writer.write_lock.locked())
    flushed = Background(session.flush, PATIENCE)
    session.terminate()
    flushed.result()
    assert stuck.error() is not None
    session.flush(0)


def test_c10_flush_writes_a_pong_that_found_no_room(make_session: MakeSession) -> None:
    session, peer = make_session()
    stuck = Background(session.send, BIG)
    wait_until(lambda: session._writer.write_lock.locked())
    session._writer.pong(b"later")
    with pytest.raises(TimeoutError):
        session.flush(0.01)
    flushed = Background(session.flush, PATIENCE)
    assert peer.receive() == BIG
    assert peer.expect_pong() == b"later"
    stuck.result()
    flushed.result()
