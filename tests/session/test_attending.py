"""Keepalive, and how the ping thread reads while the handler is busy."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any

import pytest
from wsproto.events import CloseConnection, Ping

import syncws
from syncws import CloseReason, Session
from syncws.session import attending, read_ahead, reader
from syncws.system.rarely import Rarely
from syncws.system.transport import Transport

from ..conftest import MakeSession
from ..support.background import Background, closed, wait_until
from ..support.pairs import PATIENCE, Peer, frame

Both = tuple[Session, Peer]


def test_c13_ping_is_answered_while_the_handler_is_elsewhere(session_and_peer: Both) -> None:
    """The pong comes within a second, although no thread ever calls receive()."""
    _, peer = session_and_peer
    peer.ping(b"anybody")
    assert peer.expect_pong(timeout=1.0) == b"anybody"


def test_ping_is_answered_while_the_handler_is_busy_between_messages(
    session_and_peer: Both,
) -> None:
    session, peer = session_and_peer
    peer.send("work")
    assert session.receive(PATIENCE) == "work"
    peer.ping(b"still there")
    assert peer.expect_pong(timeout=1.0) == b"still there"


def test_pings_are_answered_while_the_handler_works_on_what_was_read_ahead(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler then never waits for a message, and no other thread reads in its place."""
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    monkeypatch.setattr(reader, "LOOK_AFTER", 0)
    messages = [str(number) for number in range(20)]
    session, peer = make_session(received=b"".join(frame(1, text.encode()) for text in messages))
    session._reader.stand_in()
    assert list(session._reader._queue) == messages
    for text in messages[:-1]:
        peer.ping(text.encode())
        session._transport.wait(read=True, write=False, timeout=PATIENCE, wake=None)
        assert session.receive(PATIENCE) == text
        assert peer.expect_pong() == text.encode()
    assert list(session._reader._queue) == messages[-1:]


def test_a_look_that_another_reader_prevents_does_not_count(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LOOK_AFTER", 0)
    session, _ = make_session(received=frame(1, b"queued"))
    session._reader.stand_in()
    looked_at = session._reader.caught_up_at
    with session._reader.read_lock:
        assert session.receive(PATIENCE) == "queued"
    assert session._reader.caught_up_at == looked_at


def test_what_came_along_with_a_message_does_not_wait_for_the_handler(
    session_and_peer: Both, quick_stand_in: None
) -> None:
    """The handler's read has taken it from the socket, so the socket does not become readable."""
    session, peer = session_and_peer
    ping = peer.protocol.send(Ping(b"behind"))
    close = peer.protocol.send(CloseConnection(1000, "bye"))
    peer.send_bytes(frame(1, b"work") + ping + frame(1, b"more") + close)
    assert session.receive(PATIENCE) == "work"
    assert peer.expect_pong() == b"behind"
    assert peer.expect_close() == (1000, "bye")
    assert session.receive() == "more"


def test_what_came_along_is_seen_to_though_the_handler_came_in_between(
    session_and_peer: Both, quick_stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler takes a message just when the ping thread is about to read in its place, so the
    ping thread can not. Then the handler is busy again at once."""
    session, peer = session_and_peer
    turns: list[str | bytes] = []

    class InVainAtFirst:
        """The reader, as the ping thread sees it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(reader_of_session, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(reader_of_session, name, value)

        def stand_in(self) -> bool:
            if turns:
                return reader_of_session.stand_in()
            turns.append(session.receive(0))
            return False

    reader_of_session = session._reader
    monkeypatch.setattr(session._attending, "_reader", InVainAtFirst())
    peer.send_bytes(frame(1, b"first") + frame(1, b"second") + peer.protocol.send(Ping(b"behind")))
    assert session.receive(PATIENCE) == "first"
    assert peer.expect_pong() == b"behind"
    assert turns == ["second"]


def test_a_handler_that_comes_and_goes_is_looked_at_soon_when_that_is_overdue(
    session_and_peer: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = session_and_peer
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    with session._reader.read_lock:
        for looked_at, soon in ((time.monotonic(), False), (time.monotonic() - 2000, True)):
            session._reader._read_at = looked_at
            due = session._attending._plan(None).due
            assert due is not None
            assert (due < time.monotonic() + 500) is soon


def test_what_was_read_and_not_come_to_is_a_sign_of_life(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pong may be among the bytes that were read and not processed yet."""
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    session, _ = make_session(received=frame(1, b"first") + frame(1, b"second"))
    assert session.receive(PATIENCE) == "first"
    assert session._attending._signs().unread
    assert session.receive(PATIENCE) == "second"
    assert not session._attending._signs().unread


def test_a_callback_that_leaves_does_not_leave_the_session_alone(
    session_and_peer: Both, quick_stand_in: None
) -> None:
    session, peer = session_and_peer
    pong = session.ping()
    pong.add_done_callback(lambda _: sys.exit(1))
    peer.pong(peer.expect_ping())
    pong.result(PATIENCE)
    peer.ping(b"still there")
    assert peer.expect_pong() == b"still there"
    session.ping().add_done_callback(lambda _: sys.exit(1))
    peer.expect_ping()
    peer.send_close()
    assert session.wait_closed(PATIENCE).cause == "peer"


def test_what_came_along_while_another_stood_in_does_not_wait_either(
    make_session: MakeSession, quick_stand_in: None
) -> None:
    """The handler comes back for one message, and that does not wake up the ping thread."""
    waiting, overlooking = threading.Event(), threading.Event()

    class Overlooking(Transport):
        def wait(self, **arguments: Any) -> bool:
            if arguments.get("wake") is None:  # not the ping thread's
                return super().wait(**arguments)
            if overlooking.is_set():
                arguments["read"] = False
            waiting.set()
            try:
                return super().wait(**arguments)
            finally:
                waiting.clear()

    session, peer = make_session(transport=Overlooking)
    peer.ping(b"somebody stands in")
    peer.expect_pong()
    assert waiting.wait(PATIENCE)
    overlooking.set()
    peer.ping(b"and waits like that from now on")
    peer.expect_pong()
    peer.send_bytes(frame(1, b"work") + peer.protocol.send(Ping(b"behind")))
    assert session.receive(PATIENCE) == "work"
    assert peer.expect_pong() == b"behind"


def test_c12_pings_are_sent_and_answered(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=0.02, timeout=5)
    received = Background(session.receive)
    payloads = set()
    for _ in range(5):
        payload = peer.expect_ping()
        payloads.add(payload)
        peer.pong(payload)
    assert len(payloads) == 5, "each ping has a payload of its own"
    assert session.close_reason.done() is False
    peer.send("fine")
    assert received.result() == "fine"


@pytest.mark.parametrize("busy", [False, True])
def test_c3_peer_that_stops_answering_pings_is_dropped(
    make_session: MakeSession, busy: bool
) -> None:
    session, peer = make_session(ping_interval=0.05, timeout=0.2)
    received = None if busy else Background(session.receive)
    peer.expect_ping()
    reason = session.wait_closed(PATIENCE)
    assert reason == CloseReason(1011, "no pong within 0.2 s", "ping_timeout")
    if received is not None:
        assert closed(received) == reason
    with pytest.raises(syncws.ConnectionClosedError):
        session.send("x")


def test_any_byte_is_a_sign_of_life(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=0.02, timeout=1.0)
    received = Background(lambda: [session.receive() for _ in range(20)])
    for _ in range(20):
        # The peer sends no pong, but a message after every few pings.
        for _ in range(5):
            peer.expect_ping()
        peer.send("alive")
    assert len(received.result()) == 20


def test_a_peer_held_back_is_not_given_up(make_session: MakeSession, quick_stand_in: None) -> None:
    """The pong comes after messages that the handler has not taken yet."""
    session, peer = make_session(ping_interval=0.02, timeout=0.05)
    for _ in range(read_ahead.MAX_QUEUED_MESSAGES):
        peer.send("")
    wait_until(lambda: session._reader.reading_stopped)
    for _ in range(10):  # many times the timeout
        peer.expect_ping()
    assert not session.close_reason.done()
    peer.pong(b"")
    for _ in range(read_ahead.MAX_QUEUED_MESSAGES):
        assert session.receive(PATIENCE) == ""


def test_c2_without_pings_nobody_is_dropped(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=None, timeout=0.05)
    received = Background(session.receive)
    with pytest.raises(TimeoutError):
        peer.next_event(timeout=0.3)
    peer.send("after a while")
    assert received.result() == "after a while"


@pytest.mark.parametrize("standing_in", [False, True])
def test_c2_ping_interval_can_be_changed_at_any_time(
    make_session: MakeSession, standing_in: bool, quick_stand_in: None
) -> None:
    session, peer = make_session(ping_interval=None)
    received = None if standing_in else Background(session.receive)
    if standing_in:
        peer.ping()
        peer.expect_pong()
    session.ping_interval = 0.01
    for _ in range(3):
        peer.pong(peer.expect_ping())
    session.ping_interval = None
    assert session.ping_interval is None
    peer.send("done")
    assert (received.result() if received else session.receive(PATIENCE)) == "done"
    with pytest.raises(ValueError, match="greater than 0"):
        session.ping_interval = 0


def test_c3_timeout_can_be_changed_at_any_time(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=0.01, timeout=PATIENCE)
    peer.expect_ping()
    session.timeout = 0.05
    assert session.timeout == 0.05
    assert session.wait_closed(PATIENCE).cause == "ping_timeout"
    with pytest.raises(ValueError, match="greater than 0"):
        session.timeout = 0
    with pytest.raises(TypeError, match="timeout is a number of seconds"):
        session.timeout = None  # type: ignore[assignment]  # as a user might


def test_a_silent_peer_is_noticed_however_many_pings_fit_into_the_timeout(
    make_session: MakeSession,
) -> None:
    session, _ = make_session(ping_interval=0.005, timeout=1)
    assert session.wait_closed(PATIENCE).cause == "ping_timeout"


def test_a_slow_reader_is_not_given_up(make_session: MakeSession) -> None:
    """The ping comes after megabytes that the peer is still reading."""
    session, peer = make_session(ping_interval=0.1, timeout=0.4)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    size = 2_000_000
    session.send(b"x" * size, timeout=PATIENCE)
    peer.socket.settimeout(PATIENCE)
    read = 0
    while read < size:  # for several times the timeout
        received = len(peer.socket.recv(min(64_000, size + 10 - read)))
        assert received
        read += received
        time.sleep(0.04)  # a peer that is slow, and not stalled
    assert not session.close_reason.done()


@pytest.mark.parametrize("pattern", ["receives only", "echoes"])
def test_the_ping_thread_does_not_wake_for_each_message(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    rounds = 0
    attend = attending.Attending._do_what_is_due

    def counted(self: attending.Attending, now: float) -> float | None:
        nonlocal rounds
        rounds += 1
        return attend(self, now)

    monkeypatch.setattr(attending.Attending, "_do_what_is_due", counted)
    session, peer = make_session()

    def handle() -> None:
        for message in session:
            if pattern == "echoes":
                session.send(message)

    handler = Background(handle)
    started = time.monotonic()
    for number in range(400):
        peer.send(str(number))
        if pattern == "echoes":
            assert peer.receive() == str(number)
        time.sleep(0.002)  # a peer that sends now and then
    elapsed = time.monotonic() - started
    peer.send_close()
    handler.result()
    assert rounds < 10 + 4 * elapsed / attending.STAND_IN_AFTER


def test_without_descriptors_the_deadlines_still_hold(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, quick_stand_in: None
) -> None:
    def fail(*arguments: int) -> int:
        raise OSError("too many open files")

    session, peer = make_session(ping_interval=None, close_timeout=0.2)
    monkeypatch.setattr("os.eventfd", fail, raising=False)
    monkeypatch.setattr("os.pipe", fail)
    peer.ping()
    peer.expect_pong()
    session._start_closing(CloseReason(1001, "", "shutdown"))
    assert session.wait_closed(PATIENCE).cause == "shutdown"


def test_without_threads_the_log_is_not_flooded(
    make_session: MakeSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quick_stand_in: None,
) -> None:
    attempts: list[str] = []

    def start(self: threading.Thread) -> None:
        if self.name.startswith("syncws ping"):
            attempts.append(self.name)
            raise RuntimeError("can't start new thread")
        started(self)

    started = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(attending, "_LOG_NO_THREAD", Rarely(60.0))
    caplog.set_level("INFO", "syncws")
    for _ in range(2):
        make_session(ping_interval=None)[1].ping()
    wait_until(lambda: len(attempts) >= 10)
    assert sum("no thread to look after" in message for message in caplog.messages) == 1


def ping_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("syncws ping")]


def test_only_a_session_whose_handler_is_away_has_a_ping_thread(
    make_session: MakeSession, quick_stand_in: None
) -> None:
    session, peer = make_session(ping_interval=0.02, timeout=PATIENCE)
    received = Background(session.receive)
    # On a busy machine the handler's thread may start late, so that it was away at first.
    wait_until(lambda: session._reader.busy and not ping_threads())
    for _ in range(10):
        peer.pong(peer.expect_ping())
        assert not ping_threads(), "the clock sees to an idle one"
    peer.send("work")
    assert received.result() == "work"
    session.ping_interval = None
    peer.ping(b"anybody")
    while isinstance(peer.next_event(), Ping):
        pass  # which is followed by the pong
    (thread,) = ping_threads()
    assert thread.name == "syncws ping 192.0.2.1:4711"
    received = Background(session.receive)
    session.ping_interval = 0.02  # it looks up for that, and sees that the handler is back
    thread.join(PATIENCE)
    assert not ping_threads()
    peer.pong(peer.expect_ping())
    peer.send("done")
    assert received.result() == "done"


def test_keepalive_and_the_last_word_need_no_thread(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, quick_stand_in: None
) -> None:
    session, peer = make_session(ping_interval=0.02, timeout=0.2)
    answered = session.ping()
    peer.expect_ping()

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        while isinstance(event := peer.next_event(), Ping):
            pass
        assert isinstance(event, CloseConnection)
        assert event.code == 1011
        peer.expect_end()
        session._conclude(CloseReason())
        assert session.close_reason.result(0).cause == "ping_timeout"
        assert isinstance(answered.exception(0), syncws.ConnectionClosedError)


def test_a_failure_ends_the_session_and_is_logged(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: attending.Attending, now: float) -> float | None:
        raise LookupError("as it was told")

    with monkeypatch.context() as patched:
        patched.setattr(attending.Attending, "_keep_alive", fail)
        session, peer = make_session(ping_interval=0.01)
        peer.expect_end()
        assert session.wait_closed(PATIENCE).cause == "error"
    assert "as it was told" in caplog.text
    other, peer = make_session(ping_interval=0.01)
    peer.expect_ping()
    assert not other.close_reason.done(), "the clock goes on for the others"


def test_a_callback_holds_up_no_other_session(make_session: MakeSession) -> None:
    slow, _ = make_session()
    other, peer = make_session(ping_interval=0.01)
    called, go_on = threading.Event(), threading.Event()

    def callback(_: object) -> None:
        called.set()
        go_on.wait(PATIENCE)

    slow.close_reason.add_done_callback(callback)
    slow.terminate()
    assert called.wait(PATIENCE)
    for _ in range(5):
        peer.expect_ping()
    assert not other.close_reason.done()
    go_on.set()
