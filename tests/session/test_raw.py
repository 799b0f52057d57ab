"""Raw sessions over real connections, with a peer that the test controls."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

import syncws
from syncws import (
    CloseReason,
    Frame,
    Opcode,
    RawSession,
)
from syncws.system import turns
from syncws.system.transport import Transport

from ..conftest import MakeRaw
from ..support import faults
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.pairs import PATIENCE, Peer, frame

Both = tuple[RawSession, Peer]

CLOSE = Frame(Opcode.CLOSE, (1000).to_bytes(2, "big") + b"bye")


def silent(peer: Peer) -> bool:
    """Whether no data has reached the peer so far."""
    peer.socket.setblocking(False)
    try:
        return not peer.socket.recv(100)
    except BlockingIOError:
        return True


# Frames


def test_b2_the_handler_sees_every_frame_and_nothing_is_done_for_it(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    peer.send_bytes(
        frame(1, b"h\xc3", fin=False)
        + frame(9, b"are you there?")
        + frame(0, b"\xa9", fin=True)
        + frame(0, b"nothing to continue")
        + frame(10)
        + frame(8, b"\x0f\xa0bye")
    )
    assert [session.receive_frame(PATIENCE) for _ in range(6)] == [
        Frame(Opcode.TEXT, b"h\xc3", fin=False),
        Frame(Opcode.PING, b"are you there?"),
        Frame(Opcode.CONTINUATION, b"\xa9"),
        Frame(Opcode.CONTINUATION, b"nothing to continue"),
        Frame(Opcode.PONG),
        Frame(Opcode.CLOSE, b"\x0f\xa0bye"),
    ]
    with pytest.raises(syncws.ConnectionClosedError) as info:
        session.receive_frame(PATIENCE)
    assert info.value.reason == CloseReason(4000, "bye", "peer")
    assert info.value.session is session
    assert silent(peer), "neither a pong nor a Close"
    assert not session.close_reason.done(), "the handler may still answer"


def test_b2_frames_are_sent_as_they_are(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    for sent in (
        Frame(Opcode.TEXT, b"fragmen", fin=False),
        Frame(Opcode.PING, b"p"),
        Frame(Opcode.CONTINUATION, b"ted"),
        Frame(Opcode.PONG, b"nobody asked"),
        Frame(Opcode.BINARY, b"x" * 100_000),
    ):
        session.send_frame(sent)
    event: Any = peer.next_event()
    assert (event.data, event.message_finished) == ("fragmen", False)
    assert peer.expect_ping() == b"p"
    event = peer.next_event()
    assert (event.data, event.message_finished) == ("ted", True)
    assert peer.expect_pong() == b"nobody asked"
    assert peer.receive() == b"x" * 100_000


def test_b2_what_the_protocol_forbids_is_not_sent_unless_told_otherwise(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    with pytest.raises(ValueError, match="no message to continue"):
        session.send_frame(Frame(Opcode.CONTINUATION, b"x"))
    with pytest.raises(TypeError, match="sends a Frame, not str"):
        session.send_frame("text")  # type: ignore[arg-type]  # that is the test
    session.send_frame(Frame(Opcode.TEXT, b"the session goes on"))
    assert peer.receive() == "the session goes on"
    session.send_frame(Frame(11, b"x" * 126, fin=False, rsv2=True, unchecked=True))
    assert peer.socket.recv(4) == b"\x2b\x7e\x00\x7e"


def test_what_came_with_the_handshake_is_received(make_raw: MakeRaw) -> None:
    session, _ = make_raw(received=frame(9, b"early") + frame(1, b"cut")[:4])
    assert session.receive_frame(0) == Frame(Opcode.PING, b"early")


def test_timeouts_lose_nothing(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    with pytest.raises(TimeoutError, match="no frame within 0 s"):
        session.receive_frame(0)
    data = frame(2, b"x" * 1000)
    for part in faults.splits(data, 1, 3, 500):
        with pytest.raises(TimeoutError, match="no frame within"):
            session.receive_frame(0.01)
        peer.send_bytes(part)
    assert session.receive_frame(PATIENCE) == Frame(Opcode.BINARY, b"x" * 1000)


def test_b3_with_extensions_compression_is_the_handlers(make_raw: MakeRaw) -> None:
    session, peer = make_raw(extensions="permessage-deflate")
    compressed = Frame(Opcode.TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv1=True)
    peer.send_bytes(frame(1, compressed.payload, rsv=4))
    assert session.receive_frame(PATIENCE) == compressed
    session.send_frame(compressed)
    assert peer.socket.recv(100) == b"\xc1\x07" + compressed.payload


# The end


@pytest.mark.parametrize("first", ["peer", "local"])
def test_after_both_closes_the_connection_ends(raw_and_peer: Both, first: str) -> None:
    session, peer = raw_and_peer
    peers = Frame(Opcode.CLOSE, b"\x0f\xa1theirs")
    if first == "peer":
        peer.send_bytes(frame(8, peers.payload))
        assert session.receive_frame(PATIENCE) == peers
        session.send_frame(CLOSE)
    else:
        session.send_frame(CLOSE)
        peer.send_bytes(frame(8, peers.payload))
        assert session.receive_frame(PATIENCE) == peers
    expected = CloseReason(4001, "theirs", "peer") if first == "peer" else CloseReason(1000, "bye")
    assert session.close_reason.result(0) == expected
    assert peer.expect_close() == (1000, "bye")
    peer.expect_end()
    for call in (session.receive_frame, lambda: session.send_frame(Frame(Opcode.PING))):
        with pytest.raises(syncws.ConnectionClosed) as info:
            call()
        assert info.value.reason == expected


def test_data_after_our_close_is_an_error_of_the_handlers(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    session.send_frame(CLOSE)
    with pytest.raises(ValueError, match="a Close was sent"):
        session.send_frame(Frame(Opcode.TEXT, b"late"))
    session.send_frame(Frame(Opcode.PING))
    peer.send("what was on its way")
    assert session.receive_frame(PATIENCE).payload == b"what was on its way"


@pytest.mark.parametrize(
    ("fault", "cause"), [(faults.end_of_file, {"eof"}), (faults.reset, {"eof", "error"})]
)
def test_peer_that_goes_without_a_word(raw_and_peer: Both, fault: Any, cause: set[str]) -> None:
    session, peer = raw_and_peer
    peer.send("last")
    assert session.receive_frame(PATIENCE).payload == b"last"
    received = Background(session.receive_frame)
    fault(peer.socket)
    reason = closed(received)
    assert reason.code == 1006
    assert reason.cause in cause
    assert session.close_reason.result(0) == reason


@pytest.mark.parametrize(
    ("data", "code", "cause"),
    [
        (b"\x81\x05hello", 1002, "protocol_error"),
        (frame(3), 1002, "protocol_error"),
        (frame(2, b"x" * 101), 1009, "too_big"),
    ],
)
def test_what_can_be_no_frame_fails_the_connection(
    make_raw: MakeRaw, data: bytes, code: int, cause: str
) -> None:
    session, peer = make_raw(max_message_size=100)
    peer.send_bytes(frame(1, b"before") + data)
    assert session.receive_frame(PATIENCE).payload == b"before"
    for call in (session.receive_frame, lambda: session.send_frame(CLOSE)):
        with pytest.raises(syncws.ConnectionClosedError) as info:
            call()
        assert (info.value.reason.code, info.value.reason.cause) == (code, cause)
    assert peer.expect_close()[0] == code
    ending = Background(session._conclude, CloseReason())
    peer.expect_end()
    peer.close_socket()
    ending.result()
    assert session.close_reason.result(0).cause == cause


def test_b4_a_handler_that_returns_ends_the_connection_without_a_close(make_raw: MakeRaw) -> None:
    session, peer = make_raw(close_timeout=10 * PATIENCE)
    running = Background(session.run, lambda session: session.send_frame(Frame(Opcode.TEXT, b"x")))
    assert peer.receive() == "x"
    peer.expect_end()
    peer.send("nobody reads this")
    peer.close_socket()
    running.result()
    session._conclude(CloseReason())
    assert session.close_reason.result(0) == CloseReason(
        1006, "the handler returned without a Close", "local"
    )


def test_b4_the_peer_gets_all_that_was_sent_though_nobody_reads_what_it_sent(
    make_raw: MakeRaw,
) -> None:
    """If a connection is closed with unread bytes, TCP resets it and drops the bytes in transit."""
    session, peer = make_raw(close_timeout=10 * PATIENCE)
    peer.send_bytes(frame(2, b"unread" * 100))

    def handler(session: RawSession) -> None:
        session.send_frame(Frame(Opcode.BINARY, b"x" * 1_000_000))
        session.send_frame(CLOSE)

    running = Background(session.run, handler)
    assert peer.receive() == b"x" * 1_000_000
    assert peer.expect_close() == (1000, "bye")
    peer.expect_end()
    peer.close_socket()
    running.result()
    assert session._reason == CloseReason(1000, "bye", "local")


def test_b4_a_peer_that_stays_is_dropped_in_time(make_raw: MakeRaw) -> None:
    session, peer = make_raw(close_timeout=0.1)

    def flood_for_ever() -> None:
        data = frame(2, b"x" * 60_000)
        while True:
            peer.send_bytes(data)

    flood = Background(flood_for_ever)
    session.run(lambda session: None)
    session._conclude(CloseReason())
    with contextlib.suppress(OSError):  # reset already, with what was not read
        peer.socket.shutdown(socket.SHUT_RDWR)
    assert isinstance(flood.error(), OSError)
    assert session.close_reason.result(0).cause == "local"


def test_a_handler_that_raises_ends_with_1011(
    raw_and_peer: Both, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = raw_and_peer

    def fails(session: RawSession) -> None:
        raise LookupError("of the handler's")

    running = Background(session.run, fails)
    assert peer.answer_close() == (1011, "")
    running.result()
    (record,) = caplog.records
    assert record.exc_info
    assert session._reason == CloseReason(1011, "", "error")


def test_the_1011_waits_for_the_frame_being_written(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    with session._writing:
        session._start_closing(CloseReason(1011, "", "error"))
        ending = Background(session._end, CloseReason())
    assert peer.expect_close() == (1011, "")
    peer.expect_end()
    peer.close_socket()
    ending.result()


class Dribble(Transport):
    """A transport that always has another byte of a frame that never ends."""

    def receive(self, timeout: float | None, missing: int = 0) -> bytes:
        return b"x"


def test_a_peer_that_dribbles_does_not_stretch_the_timeouts(make_raw: MakeRaw) -> None:
    session, _ = make_raw(
        transport=Dribble,
        received=frame(2, b"x" * 10_000_000)[:14],
        max_message_size=10_000_000,
        close_timeout=0.05,
    )
    with pytest.raises(TimeoutError):
        session.receive_frame(0)
    session._end(CloseReason())
    assert session._reason is not None
    assert session._input.expected_bytes > 0, "both ended for the time's sake"


def test_own_connection_closed_is_a_normal_way_out(
    raw_and_peer: Both, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = raw_and_peer

    def handler(session: RawSession) -> None:
        while True:
            session.receive_frame()

    running = Background(session.run, handler)
    peer.send_close(4000)
    peer.expect_end()
    running.result()
    assert not caplog.records
    assert session._reason == CloseReason(4000, "", "peer")


# Threads


def test_one_thread_receives_at_a_time(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    received = Background(session.receive_frame)
    wait_until(lambda: session._receiving.locked())
    with pytest.raises(syncws.ConcurrencyError, match="receive_frame"):
        session.receive_frame()
    peer.send("x")
    assert received.result().payload == b"x"


def test_frames_of_many_threads_go_out_whole(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    messages = [bytes([number]) * 200_000 for number in range(8)]
    senders = [Background(session.send_frame, Frame(Opcode.BINARY, m)) for m in messages]
    assert sorted(peer.receive() for _ in messages) == messages
    for sender in senders:
        sender.result()


def test_a_peer_that_does_not_read(make_raw: MakeRaw) -> None:
    session, peer = make_raw()
    faults.stall(peer.socket)
    other = Background(session.send_frame, Frame(Opcode.BINARY, BIG), PATIENCE)
    wait_until(lambda: session._transport.sent)
    with pytest.raises(TimeoutError, match="nothing was sent, try again") as info:
        session.send_frame(Frame(Opcode.PING), 0.01)
    assert not isinstance(info.value, syncws.ConnectionClosed)
    session.terminate()
    assert closed(other).cause == "local"


def test_a_write_that_takes_too_long_ends_the_session(make_raw: MakeRaw) -> None:
    session, peer = make_raw(timeout=0.05)
    faults.stall(peer.socket)
    with pytest.raises(syncws.SendTimeoutError) as info:
        session.send_frame(Frame(Opcode.BINARY, BIG))
    assert info.value.reason.cause == "send_timeout"
    assert session.wait_closed(0).cause == "send_timeout"


def test_what_came_before_a_break_is_received_though_sending_has_failed(
    raw_and_peer: Both,
) -> None:
    session, peer = raw_and_peer
    peer.send("last words")
    peer.close_socket()

    def send_for_ever() -> None:
        while True:
            session.send_frame(Frame(Opcode.BINARY, b"x" * 1000))

    with pytest.raises(syncws.ConnectionClosedError) as info:
        send_for_ever()
    assert info.value.reason.cause == "error"
    assert session.receive_frame().payload == b"last words"
    with pytest.raises(syncws.ConnectionClosedError) as again:
        session.receive_frame()
    assert again.value.reason == session.close_reason.result(0) == info.value.reason


def test_terminate_wakes_everybody(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    faults.stall(peer.socket)
    calls = [
        Background(session.receive_frame),
        Background(session.send_frame, Frame(Opcode.BINARY, BIG)),
        Background(session.wait_closed),
    ]
    wait_until(lambda: session._transport.sent)
    session.terminate()
    expected = CloseReason(1006, "terminated", "local")
    assert [closed(call) for call in calls[:2]] == [expected, expected]
    assert calls[2].result() == expected


def test_b4_another_threads_receive_ends_with_the_handler(make_raw: MakeRaw) -> None:
    session, peer = make_raw(close_timeout=0.1)
    received = Background(session.receive_frame)
    wait_until(lambda: session._receiving.locked())
    session.run(lambda session: None)
    assert closed(received).cause == "local"
    peer.expect_end()


def test_callbacks_may_use_the_session(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    said: list[Any] = []

    def note(future: Any) -> None:
        for call in (lambda: session.receive_frame(0), lambda: session.send_frame(CLOSE)):
            with pytest.raises(syncws.ConnectionClosed):
                call()
        said.append(future.result())

    session.close_reason.add_done_callback(note)
    faults.end_of_file(peer.socket)
    with pytest.raises(syncws.ConnectionClosedError):
        session.receive_frame(PATIENCE)
    assert said == [CloseReason(1006, "end of file without a Close", "eof")]


# About it


def test_about(make_raw: MakeRaw) -> None:
    session, peer = make_raw()
    assert session.remote_address == ("192.0.2.1", 4711)
    assert repr(session) == f"<RawSession {session.id} '/raw' with 192.0.2.1:4711: open>"
    assert session.subprotocol is None
    assert session.extensions == ""
    with pytest.raises(TimeoutError):
        session.wait_closed(0)
    session.send_frame(Frame(Opcode.TEXT, b"one", fin=False))
    session.send_frame(Frame(Opcode.CONTINUATION, b"message"))
    session.send_frame(Frame(Opcode.PING))
    peer.send_bytes(frame(1, b"a", fin=False) + frame(0, b"b") + frame(2) + frame(9))
    for _ in range(4):
        session.receive_frame(PATIENCE)
    assert session._traffic() == (2, 1, 7 + 7 + 6 + 6, 5 + 9 + 2)


# Turns


def test_a_busy_peer_lets_others_run(make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch) -> None:
    gave_way = 0

    def give_way() -> None:
        nonlocal gave_way
        gave_way += 1

    monkeypatch.setattr(turns, "_give_way", give_way)
    monkeypatch.setattr(turns, "_gil_is_on", lambda: True)
    count = 5 * turns.MESSAGES
    session, peer = make_raw(received=frame(1, b"x") * count)
    for _ in range(count):
        session.receive_frame(PATIENCE)
    assert gave_way == 5
    for _ in range(count):
        peer.send("x")
        session.receive_frame(PATIENCE)
    assert gave_way == 5, "each of them was waited for"


def test_a_busy_session_lets_others_run_before_it_reads_again(
    make_raw: MakeRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_gil_is_on", lambda: True)
    session, peer = make_raw(received=frame(1, b"x") * turns.MESSAGES_BEFORE_READING)
    monkeypatch.setattr(turns, "_give_way", lambda: peer.send("more"))
    for _ in range(turns.MESSAGES_BEFORE_READING):
        assert session.receive_frame(PATIENCE).payload == b"x"
    assert session.receive_frame(PATIENCE).payload == b"more"
    monkeypatch.setattr(turns, "_give_way", lambda: pytest.fail("it has had its turn"))
    peer.send("y")
    assert session.receive_frame(PATIENCE).payload == b"y"
