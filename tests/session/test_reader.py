"""Receiving: one reader at a time, reading ahead, and faults in the right order."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Session
from syncws.session import attending, read_ahead, reader
from syncws.system import turns

from ..conftest import MakeSession
from ..support import faults
from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE, Peer, frame

Both = tuple[Session, Peer]


@pytest.mark.usefixtures("quick_stand_in")
def test_messages_read_ahead_keep_their_order(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send("one")
    peer.send(b"two")
    peer.ping(b"x")
    assert peer.expect_pong() == b"x"
    peer.send("three")
    assert [session.receive(PATIENCE) for _ in range(3)] == ["one", b"two", "three"]


@pytest.mark.usefixtures("quick_stand_in")
def test_reading_ahead_is_bounded(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    count = read_ahead.MAX_QUEUED_MESSAGES + 50
    for number in range(count):
        peer.send(str(number))
    wait_until(lambda: session._reader.reading_stopped)
    assert len(session._reader._queue) == read_ahead.MAX_QUEUED_MESSAGES
    assert [session.receive(PATIENCE) for _ in range(count)] == [str(n) for n in range(count)]


@pytest.mark.usefixtures("quick_stand_in")
def test_reading_ahead_is_bounded_in_bytes(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    message = b"x" * (read_ahead.MAX_QUEUED_BYTES // 4)
    sender = Background(peer.send_bytes, frame(2, message) * 64)
    wait_until(lambda: session._reader.reading_stopped)
    assert len(session._reader._queue) == 4
    assert all(session.receive(PATIENCE) == message for _ in range(64))
    sender.result()
    assert session._reader._read_ahead.size == 0


def test_second_receive_is_refused(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    first = Background(session.receive)
    wait_until(lambda: session._reader.receiving.locked())
    with pytest.raises(syncws.ConcurrencyError, match="another thread is in receive"):
        session.receive(0)
    peer.send("for the first")
    assert first.result() == "for the first"


@pytest.mark.usefixtures("quick_stand_in")
def test_fault_waits_for_the_messages_before_it(session_and_peer: Both) -> None:
    """Messages that came before the fault are received, and the handler can still answer them."""
    session, peer = session_and_peer
    peer.send_bytes(frame(1, b"one") + frame(1, b"two") + frame(3))
    while session._reader._fault is None:
        pass
    for expected in ("one", "two"):
        assert session.receive(PATIENCE) == expected
        session.send(expected)
        assert peer.receive() == expected
    with pytest.raises(syncws.ConnectionClosedError):
        session.receive(PATIENCE)
    assert peer.expect_close()[0] == 1002


@pytest.mark.usefixtures("quick_stand_in")
def test_a_fault_behind_messages_stays_the_reason_when_the_peer_goes(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    session, peer = make_session(
        received=frame(1, b"before") + frame(1, b"the fault", masked=False)
    )
    session._reader.stand_in()
    peer.socket.shutdown(socket.SHUT_WR)
    assert session._transport.wait(read=True, timeout=PATIENCE)
    session._reader.stand_in()
    assert session.receive(PATIENCE) == "before"
    with pytest.raises(syncws.ConnectionClosedError) as caught:
        session.receive(PATIENCE)
    assert (caught.value.reason.code, caught.value.reason.cause) == (1002, "protocol_error")
    assert peer.expect_close()[0] == 1002, "it may still read"


@pytest.mark.parametrize("streamed", [True, False])
def test_behind_what_is_thrown_away_nothing_is_received(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    """No part of a message is missing, and no message between two others is missing."""
    monkeypatch.setattr(read_ahead, "MAX_QUEUED_MESSAGES", 2)
    session, peer = make_session(close_timeout=PATIENCE)
    peer.send_bytes(frame(2, b"0", fin=not streamed))
    file = session.receive_stream(PATIENCE)
    session._start_closing(CloseReason(1001, "", "shutdown"))
    opcode = 0 if streamed else 2
    for number in range(1, 6):
        peer.send_bytes(frame(opcode, b"%d" % number, fin=not streamed))
    wait_until(lambda: session._reader._discarding)
    if streamed:
        assert [file.read(1) for _ in range(3)] == [b"0", b"1", b"2"]
    else:
        assert file.read() == b"0"
        assert [session.receive(PATIENCE) for _ in range(2)] == [b"1", b"2"]
    peer.send_bytes(frame(opcode, b"6") + frame(2, b"another"))
    peer.send_close(1001)
    if streamed:
        with pytest.raises(syncws.ConnectionClosedOK):
            file.read()
    with pytest.raises(syncws.ConnectionClosedOK):
        session.receive(PATIENCE)


def test_the_handler_discards_too(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    session, _ = make_session(received=frame(1, b"behind what was thrown away"))
    session._reader._discarding = True
    with pytest.raises(TimeoutError):
        session.receive(0)


def test_until_when_all_has_been_looked_at(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of one read may have arrived at any time since the previous read."""
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    monkeypatch.setattr(reader, "_AT_ONCE", PATIENCE)
    session, peer = make_session()
    before = session._reader.caught_up_at
    peer.send_bytes(frame(1, b"first") + frame(1, b"second"))
    assert session.receive(PATIENCE) == "first"
    assert session._reader.caught_up_at == before
    assert session.receive(PATIENCE) == "second"
    after = session._reader.caught_up_at
    assert after > before
    # If the reader had to wait for the bytes, none had arrived when it began to wait.
    monkeypatch.setattr(reader, "_AT_ONCE", -1)
    peer.send_bytes(frame(1, b"third") + frame(1, b"fourth"))
    assert session.receive(PATIENCE) == "third"
    assert session._reader.caught_up_at > after
    looked_at = session._reader.caught_up_at
    assert session.receive(PATIENCE) == "fourth"
    with pytest.raises(TimeoutError):
        session.receive(0)
    assert session._reader.caught_up_at > looked_at


def test_fault_does_not_wait_for_ever(make_session: MakeSession) -> None:
    _, peer = make_session(close_timeout=0.1)
    peer.send_bytes(frame(1, b"never received") + frame(3))
    assert peer.expect_close()[0] == 1002


def test_peer_that_sends_on_after_its_fault_is_dropped(make_session: MakeSession) -> None:
    session, peer = make_session(close_timeout=0.1)
    peer.send_bytes(frame(3))
    assert session.wait_closed(PATIENCE).cause == "protocol_error"


def test_receive_byte_by_byte(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(session.receive, PATIENCE)
    faults.byte_by_byte(peer.socket, frame(1, b"slowly") + frame(1, b"and more"))
    assert received.result() == "slowly"
    assert session.receive(PATIENCE) == "and more"


def test_receive_timeout_can_be_repeated_without_loss(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    whole = frame(1, b"in two parts")
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            session.receive(timeout)
    peer.send_bytes(whole[:5])
    with pytest.raises(TimeoutError, match=r"no message within 0\.05 s"):
        session.receive(0.05)
    peer.send_bytes(whole[5:])
    assert session.receive(PATIENCE) == "in two parts"


def test_receive_without_waiting(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_bytes(frame(1, b"a") + frame(1, b"b"))
    assert session.receive(PATIENCE) == "a"
    assert session.receive(0) == "b", "both came together"
    with pytest.raises(TimeoutError):
        session.receive(0)


@pytest.mark.usefixtures("quick_stand_in")
def test_reading_ahead_goes_on_when_the_queue_has_room_again(make_session: MakeSession) -> None:
    """The handler takes some of the messages that were read ahead, and never receives again."""
    session, peer = make_session(ping_interval=None)
    for _ in range(read_ahead.MAX_QUEUED_MESSAGES + 40):
        peer.send("")
    wait_until(lambda: session._reader.reading_stopped)
    for _ in range(200):
        session.receive(PATIENCE)
    peer.ping(b"still there?")
    assert peer.expect_pong() == b"still there?"
    peer.send_close(1000, "bye")
    assert peer.expect_close() == (1000, "bye")


def test_a_flood_of_pings_does_not_stretch_the_timeout(make_session: MakeSession) -> None:
    session, peer = make_session()
    stop = threading.Event()

    def flood() -> None:
        with contextlib.suppress(OSError):  # until its socket is shut down
            while not stop.is_set():
                peer.send_bytes(frame(10, b"unsolicited") * 1000)  # pongs: they need no answer

    flooding = Background(flood)
    try:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            session.receive(0.2)
        assert time.monotonic() - started < PATIENCE
    finally:
        stop.set()
        # The peer may wait for room, and nobody reads what is left. If its window is full, the end
        # of the session does not reach it either.
        peer.socket.shutdown(socket.SHUT_RDWR)
        flooding.result()


def test_queued_messages_are_received_while_another_thread_closes(
    make_session: MakeSession, quick_stand_in: None
) -> None:
    session, peer = make_session()
    peer.send("one")
    peer.send("two")
    while len(session._reader._queue) < 2:
        pass
    closing = Background(session.close)
    assert peer.expect_close()[0] == 1000
    assert session.receive(0) == "one"
    assert session.receive(1) == "two"
    peer.send_close()
    closing.result()


@pytest.mark.usefixtures("quick_stand_in")
def test_the_answer_to_a_close_is_found_behind_a_full_queue(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    for _ in range(read_ahead.MAX_QUEUED_MESSAGES + 100):
        peer.send("")
    wait_until(lambda: session._reader.reading_stopped)
    session._start_closing(CloseReason(1001, "", "shutdown"))
    assert peer.answer_close() == (1001, "")
    assert session.wait_closed(1.0).cause == "shutdown"


def test_what_the_peer_sent_before_it_went_is_received(make_session: MakeSession) -> None:
    """A write fails. The peer had sent more than is read ahead, and then a Close."""
    session, peer = make_session(started=False)  # nobody reads but send() itself
    count = 3 * read_ahead.MAX_QUEUED_MESSAGES
    peer.send_bytes(frame(1, b"x" * 20) * count)
    peer.send_close(1000, "done")
    peer.close_socket()

    def send_on() -> None:
        while True:
            session.send("x")

    with pytest.raises(syncws.ConnectionClosedOK):
        send_on()
    assert [session.receive() for _ in range(count)] == ["x" * 20] * count
    with pytest.raises(syncws.ConnectionClosedOK) as caught:
        session.receive()
    assert caught.value.reason == CloseReason(1000, "done", "peer")


class GivenUp(socket.socket):
    """A socket whose connection the operating system has given up."""

    def recv(self, *arguments: Any) -> bytes:
        raise TimeoutError(110, "Connection timed out")


def test_the_system_giving_up_is_no_receive_timeout(make_session: MakeSession) -> None:
    """Python raises TimeoutError for ETIMEDOUT, but here it means that the connection has ended."""
    session, _ = make_session()
    with GivenUp() as given_up:
        session._transport._sock = given_up
        with pytest.raises(syncws.ConnectionClosedError) as caught:
            session.receive()
        session._conclude(CloseReason())
    assert caught.value.reason == CloseReason(1006, "Connection timed out", "error")


@pytest.mark.parametrize("receiving", [True, False])
def test_a_reset_is_an_error_whoever_hears_of_it(
    make_session: MakeSession, receiving: bool
) -> None:
    session, peer = make_session(started=False)
    faults.reset(peer.socket)

    def use_on() -> None:
        while True:
            session.receive(PATIENCE) if receiving else session.send("x")

    with pytest.raises(syncws.ConnectionClosedError) as caught:
        use_on()
    assert (caught.value.reason.code, caught.value.reason.cause) == (1006, "error")


@pytest.mark.parametrize("gil", [True, False])
def test_a_busy_peer_lets_others_run(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, gil: bool
) -> None:
    gave_way = 0

    def give_way() -> None:
        nonlocal gave_way
        gave_way += 1

    monkeypatch.setattr(turns, "_give_way", give_way)
    monkeypatch.setattr(turns, "_gil_is_on", lambda: gil)
    session, peer = make_session(started=False)
    count = 5 * turns.MESSAGES
    peer.send_bytes(frame(1, b"x") * (count + 5))
    for _ in range(count + 5):
        assert session.receive(PATIENCE) == "x"
    if gil:
        assert gave_way >= 4, "all but a few of them had come with another one"
    else:
        assert gave_way == 0, "the others have the other cores, and the system's scheduler"
    peer.send("x")
    assert session.receive(PATIENCE) == "x"
    gave_way = 0
    for _ in range(count):
        peer.send("x")
        assert session.receive(PATIENCE) == "x"
    assert gave_way == 0, "each of them was waited for"


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_busy_session_lets_others_run_before_it_reads_again(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    """It has just answered its peer, which sends more in the meantime."""
    monkeypatch.setattr(turns, "_gil_is_on", lambda: True)
    received = frame(1, b"x") * turns.MESSAGES_BEFORE_READING
    session, peer = make_session(started=False, received=received)
    monkeypatch.setattr(turns, "_give_way", lambda: peer.send("more"))
    for _ in range(turns.MESSAGES_BEFORE_READING):
        assert session.receive(timeout) == "x"
    assert session.receive(timeout) == "more"
    monkeypatch.setattr(turns, "_give_way", lambda: pytest.fail("it has had its turn"))
    peer.send("y")
    assert session.receive(timeout) == "y"
