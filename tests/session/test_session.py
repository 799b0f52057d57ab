"""Sessions over real TCP connections, with a peer that the test controls."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Session

from ..conftest import MakeSession
from ..support import faults
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.pairs import PATIENCE, Peer, frame

pytestmark = pytest.mark.usefixtures("quick_stand_in")

Both = tuple[Session, Peer]


@pytest.mark.parametrize("message", ["", "héllo", b"", b"\x00\xff", "x" * 70_000, b"y" * 300_000])
def test_c4_messages_both_ways(session_and_peer: Both, message: str | bytes) -> None:
    session, peer = session_and_peer
    peer.send(message)
    assert session.receive(PATIENCE) == message
    sender = Background(session.send, message)
    assert peer.receive() == message
    sender.result()


@pytest.mark.parametrize("data", [bytearray(b"abc"), memoryview(b"abc")])
def test_bytes_like_objects_are_sent_as_binary(session_and_peer: Both, data: Any) -> None:
    session, peer = session_and_peer
    session.send(data)
    assert peer.receive() == b"abc"


@pytest.mark.parametrize("data", [None, 5, {"a": 1}])
def test_anything_else_is_refused_with_advice(session_and_peer: Both, data: Any) -> None:
    session, peer = session_and_peer
    with pytest.raises(TypeError, match="send_json"):
        session.send(data)
    session.send("fine")
    assert peer.receive() == "fine"


def test_text_that_is_no_unicode(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    with pytest.raises(UnicodeEncodeError):
        session.send("\ud800")
    session.send("fine")
    assert peer.receive() == "fine"


def test_json(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.send_json({"name": "Zoë", "n": [1, 2.5, None]})
    text = peer.receive()
    assert text == '{"name":"Zoë","n":[1,2.5,null]}'
    peer.send(text)
    assert session.receive_json(PATIENCE) == json.loads(text)
    peer.send('["half of a pair: \\ud800", "é"]')
    session.send_json(session.receive_json(PATIENCE))
    assert peer.receive() == '["half of a pair: \\ud800","\\u00e9"]'
    peer.send("no json")
    with pytest.raises(json.JSONDecodeError):
        session.receive_json(PATIENCE)
    peer.send("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        session.receive_json(PATIENCE)


def test_what_came_with_the_handshake_is_received(make_session: MakeSession) -> None:
    session, peer = make_session(received=frame(1, b"early") + frame(1, b"cut")[:-1])
    assert session.receive(PATIENCE) == "early"
    peer.send_bytes(frame(1, b"cut")[-1:])
    assert session.receive(PATIENCE) == "cut"


def test_iteration_ends_quietly_on_a_normal_end(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(list, session)
    peer.send("a")
    peer.send(b"b")
    peer.send_close(1001)
    assert received.result() == ["a", b"b"]


def test_iteration_raises_on_any_other_end(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(list, session)
    peer.send_close(4000, "no")
    error = received.error()
    assert isinstance(error, syncws.ConnectionClosedError)
    assert error.reason == CloseReason(4000, "no", "peer")
    assert error.session is session


def test_ping_is_answered_in_receive(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    peer.ping(b"are you there")
    assert peer.expect_pong() == b"are you there"
    peer.send("done")
    assert received.result() == "done"


def test_ping_gives_the_round_trip_time(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    answer = session.ping()
    payload = peer.expect_ping()
    assert len(payload) == 8
    assert not answer.done()
    peer.pong(b"something else")
    peer.pong(payload)
    assert 0 < answer.result(PATIENCE) < PATIENCE
    peer.send("")
    received.result()


@pytest.mark.usefixtures("quick_stand_in")
def test_a_pong_answers_earlier_pings_too(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    answers = [session.ping() for _ in range(3)]
    payloads = [peer.expect_ping() for _ in range(3)]
    assert len(set(payloads)) == 3
    peer.pong(payloads[1])
    for answer in answers[:2]:
        assert answer.result(PATIENCE) > 0
    assert not answers[2].done()


def test_ping_fails_when_the_session_ends(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    answer = session.ping()
    session.terminate()
    assert isinstance(answer.exception(PATIENCE), syncws.ConnectionClosedError)
    with pytest.raises(syncws.ConnectionClosed):
        session.ping()


@pytest.mark.usefixtures("quick_stand_in")
def test_callbacks_may_use_the_session(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    done = threading.Event()

    def on_pong(_: Any) -> None:
        session.send("from the callback")
        session.close()
        done.set()

    session.ping().add_done_callback(on_pong)
    peer.pong(peer.expect_ping())
    assert peer.receive() == "from the callback"
    peer.answer_close()
    assert done.wait(PATIENCE)
    assert session.wait_closed(PATIENCE) == CloseReason(1000, "", "local")


# The end, from the peer


@pytest.mark.parametrize(
    ("code", "exception"),
    [
        (1000, syncws.ConnectionClosedOK),
        (1001, syncws.ConnectionClosedOK),
        (4321, syncws.ConnectionClosedError),
        (1011, syncws.ConnectionClosedError),
    ],
)
def test_close_from_the_peer(session_and_peer: Both, code: int, exception: type[Exception]) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    peer.send_close(code, "why")
    assert peer.expect_close() == (code, "why"), "echoed"
    peer.expect_end()
    error = received.error()
    assert type(error) is exception
    assert session.wait_closed(PATIENCE) == CloseReason(code, "why", "peer")


def test_close_without_a_code_from_the_peer(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    peer.send_bytes(frame(8))
    assert peer.expect_close()[0] == 1005
    assert isinstance(received.error(), syncws.ConnectionClosedOK)


def test_messages_before_the_close_are_delivered_first(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_bytes(frame(1, b"one") + frame(1, b"two") + frame(8, b"\x03\xe8"))
    assert session.receive(PATIENCE) == "one"
    assert session.receive(PATIENCE) == "two"
    with pytest.raises(syncws.ConnectionClosedOK):
        session.receive(PATIENCE)
    with pytest.raises(syncws.ConnectionClosedOK):
        session.receive(PATIENCE)


def test_a_handler_that_only_sends_learns_of_the_close(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send("unread")
    peer.send_close(1000, "enough")
    assert peer.expect_close(timeout=1.0) == (1000, "enough")
    assert session.wait_closed(PATIENCE) == CloseReason(1000, "enough", "peer")
    with pytest.raises(syncws.ConnectionClosedOK):
        session.send("too late")
    assert session.receive() == "unread", "kept for whoever wants it"
    with pytest.raises(syncws.ConnectionClosedOK):
        session.receive()


@pytest.mark.parametrize("fault", [faults.end_of_file, faults.reset])
def test_peer_that_goes_without_a_word(session_and_peer: Both, fault: Any) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    peer.send("last words")
    assert received.result() == "last words"
    received = Background(session.receive)
    fault(peer.socket)
    reason = closed(received)
    assert (reason.code, reason.cause) == (
        1006,
        "eof" if fault is faults.end_of_file else "error",
    )
    assert session.wait_closed(PATIENCE) == reason


def test_close_code_is_found_when_only_writing_fails(make_session: MakeSession) -> None:
    """The peer has sent a Close and left. The handler, which only sends, learns the code."""
    session, peer = make_session(started=False)  # nobody reads but send() itself
    peer.send_close(4001, "moved")
    peer.close_socket()

    def send_on() -> None:
        while True:
            session.send("x" * 1000)

    with pytest.raises(syncws.ConnectionClosedError) as caught:
        send_on()
    assert caught.value.reason == CloseReason(4001, "moved", "peer")


# The end, from this side


def test_c9_close(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    closing = Background(session.close, 4000, "done")
    assert peer.answer_close() == (4000, "done")
    closing.result()
    peer.expect_end()
    assert session.wait_closed(PATIENCE) == CloseReason(4000, "done", "local")
    session.close()
    session.terminate()
    assert session.close_reason.result(0) == CloseReason(4000, "done", "local")


def test_close_wakes_receive(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    closing = Background(session.close)
    peer.answer_close()
    assert closed(received) == CloseReason(1000, "", "local")
    closing.result()


def test_messages_that_cross_the_close_are_kept(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    closing = Background(session.close)
    peer.expect_close()
    peer.send_bytes(frame(1, b"crossing"))
    peer.send_close()
    closing.result()
    assert session.receive() == "crossing"
    with pytest.raises(syncws.ConnectionClosedOK):
        session.receive()


def test_c9_closes_that_cross(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_close(1000)
    session.close(1000)
    assert peer.expect_close()[0] == 1000
    peer.expect_end()


@pytest.mark.parametrize("receiving", [False, True])
def test_a8_a_peer_that_never_answers_the_close_is_dropped(
    make_session: MakeSession, receiving: bool
) -> None:
    session, peer = make_session(close_timeout=0.1)
    received = Background(session.receive) if receiving else None
    session.close()
    assert peer.expect_close()[0] == 1000
    peer.expect_end()
    assert session.wait_closed(PATIENCE) == CloseReason(1000, "", "local")
    if received is not None:
        assert closed(received).cause == "local"


def test_close_does_not_hang_on_unread_messages(make_session: MakeSession) -> None:
    """There are more unread messages than the queue holds, and then the peer's Close."""
    session, peer = make_session()
    flood = Background(lambda: peer.send_bytes(frame(2, b"x" * 60_000) * 100))
    closing = Background(session.close)
    flood.result()
    peer.answer_close()
    closing.result()
    assert session.wait_closed(PATIENCE).cause == "local"


def test_close_while_a_send_is_stuck(make_session: MakeSession) -> None:
    session, peer = make_session(close_timeout=0.1)
    faults.stall(peer.socket)
    sender = Background(session.send, BIG)
    wait_until(lambda: session._writer.write_lock.locked())
    session.close()
    assert closed(sender).cause == "local"
    assert session.wait_closed(PATIENCE).cause == "local"


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (1006, ""), (200, ""), (1000, "x" * 124)])
def test_close_refuses_what_can_not_be_sent(session_and_peer: Both, code: int, reason: str) -> None:
    session, peer = session_and_peer
    with pytest.raises(ValueError, match="close"):
        session.close(code, reason)
    session.send("still open")
    assert peer.receive() == "still open"


def test_c11_terminate_wakes_everybody(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    faults.stall(peer.socket)
    received = Background(session.receive)
    sender = Background(session.send, BIG)
    waiting = Background(session.wait_closed)
    wait_until(lambda: session._writer.write_lock.locked())
    session.terminate()
    assert closed(received) == closed(sender) == waiting.result()
    assert session.wait_closed() == CloseReason(1006, "terminated", "local")


def test_start_closing_needs_nobody_to_see_it_through(make_session: MakeSession) -> None:
    """A worker closes all of its sessions this way, even if their handlers are busy."""
    session, peer = make_session()
    session._start_closing(CloseReason(1001, "", "shutdown"))
    assert peer.answer_close(timeout=1.0) == (1001, "")
    peer.expect_end()
    assert session.wait_closed(PATIENCE) == CloseReason(1001, "", "shutdown")


def test_start_closing_ends_in_time_though_the_peer_is_silent(make_session: MakeSession) -> None:
    session, peer = make_session(close_timeout=0.1)
    session._start_closing(CloseReason(1001, "", "shutdown"))
    assert session.wait_closed(PATIENCE).cause == "shutdown"
    assert peer.expect_close()[0] == 1001


def test_wait_closed_in_vain(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    with pytest.raises(TimeoutError, match="not ended within"):
        session.wait_closed(0.01)
    assert not session.close_reason.cancel(), "it is not the caller's to cancel"


def test_c1_close_reason_is_a_future(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    reasons: list[CloseReason] = []
    session.close_reason.add_done_callback(lambda future: reasons.append(future.result()))
    peer.send_close(1000, "bye")
    session.wait_closed(PATIENCE)
    session._conclude(CloseReason())
    assert reasons == [CloseReason(1000, "bye", "peer")]


# Faults of the peer's


@pytest.mark.parametrize(
    ("bad", "code", "cause"),
    [
        (frame(3), 1002, "protocol_error"),
        (frame(1, b"\xff"), 1007, "protocol_error"),
        (frame(2, b"x" * 1001), 1009, "too_big"),
        (b"GET / HTTP/1.1\r\n\r\n", 1002, "protocol_error"),
    ],
)
@pytest.mark.parametrize("receiving", [False, True])
def test_fault_is_answered_and_ends_the_session(
    make_session: MakeSession, bad: bytes, code: int, cause: str, receiving: bool
) -> None:
    session, peer = make_session(max_message_size=1000)
    received = Background(session.receive) if receiving else None
    peer.send_bytes(bad)
    assert peer.expect_close(timeout=2.0)[0] == code
    peer.expect_end()
    if received is not None:
        reason = closed(received)
        assert (reason.code, reason.cause) == (code, cause)
    # All further bytes of the peer are read and dropped until the peer ends the connection.
    peer.send_bytes(b"more garbage" * 1000)
    peer.close_socket()
    assert session.wait_closed(PATIENCE).cause == cause


# About it


def test_about(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    assert session.remote_address == ("192.0.2.1", 4711)
    assert session.subprotocol is None
    assert session.environ["PATH_INFO"] == "/test"
    assert repr(session) == f"<Session {session.id} '/test' with 192.0.2.1:4711: open>"
    session.terminate()
    assert "1006" in repr(session)


def test_another_sessions_end_is_no_reason_not_to_have_sent(make_session: MakeSession) -> None:
    (session, peer), (other, _) = make_session(), make_session()
    other.terminate()

    def parts() -> Iterator[str]:
        yield str(other.receive())

    with pytest.raises(syncws.ConnectionClosed) as caught:
        session.try_send(parts())
    assert caught.value.session is other
    assert session.try_send("fine")
    assert peer.receive() == "fine"
