"""Rare conditions: unfinished messages, signals, timeouts of every size."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import threading
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import syncws
from syncws import PreparedMessage, Session
from syncws.session import attending, intake, read_ahead
from syncws.session.keepalive import Keepalive
from syncws.system.tls import TlsTransport

from ..conftest import MakeSession
from ..support.background import BIG, Background, wait_until
from ..support.faults import reset
from ..support.listening import Listener
from ..support.pairs import PATIENCE, Peer, frame, tcp_pair, tls_pair

Both = tuple[Session, Peer]


@pytest.mark.parametrize("fragments", [False, True])
def test_an_unfinished_message_does_not_switch_keepalive_off(
    make_session: MakeSession, fragments: bool
) -> None:
    session, peer = make_session(ping_interval=0.2, timeout=0.3)
    receiving = Background(session.receive)
    whole = frame(2, bytes(400_000), fin=not fragments)
    peer.socket.sendall(whole if fragments else whole[:-1])
    with pytest.raises(syncws.ConnectionClosedError):
        receiving.result()
    assert session.close_reason.result(PATIENCE).cause == "ping_timeout"


def unfinished(data: bytes, *, masked: bool = True, rsv: int = 0) -> bytes:
    """``data`` in fragments, without the last one."""
    first, *others = [data[at : at + 30_000] for at in range(0, len(data), 30_000)]
    begun = frame(2, first, fin=False, rsv=rsv, masked=masked)
    return begun + b"".join(frame(0, each, fin=False, masked=masked) for each in others)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("size", [600_000, 3_000_000])
def test_a_peer_that_is_silent_in_a_message_is_dropped_while_the_handler_is_away(
    make_session: MakeSession,
    certificate: tuple[Path, Path],
    quick_stand_in: None,
    size: int,
    tls: bool,
) -> None:
    """The system holds the part of it that is not read ahead. Nothing waits for the handler."""
    begun = unfinished(bytes(size))
    session, peer = make_session(
        sockets=tls_pair(certificate) if tls else None,
        ping_interval=0.2,
        timeout=0.5,
        max_message_size=10_000_000,
    )
    peer.socket.sendall(begun)
    assert session.close_reason.result(PATIENCE).cause == "ping_timeout"


def test_a_server_that_is_silent_in_a_compressed_message_is_dropped_too(
    quick_stand_in: None,
) -> None:
    deflater = zlib.compressobj(wbits=-15)
    data = deflater.compress(os.urandom(900_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    begun = unfinished(data, masked=False, rsv=4)
    with contextlib.closing(Listener()) as listener:
        session, peer = listener.connect(
            "Sec-WebSocket-Extensions: permessage-deflate",
            compression="deflate",
            ping_interval=0.2,
            timeout=0.5,
        )
        with session:
            peer.socket.sendall(begun)
            assert session.close_reason.result(PATIENCE).cause == "ping_timeout"


@pytest.mark.parametrize("limit", [300_000, read_ahead.MAX_UNFINISHED_BYTES])
def test_a_peer_held_back_in_the_middle_of_a_message_is_not_dropped(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch, quick_stand_in: None, limit: int
) -> None:
    monkeypatch.setattr(intake, "MAX_UNFINISHED_BYTES", limit)
    begun, more = unfinished(bytes(30_000)), frame(0, bytes(30_000), fin=False)
    size = 600 * 30_000
    session, peer = make_session(ping_interval=0.1, timeout=0.3, max_message_size=size + 1)
    sent = Background(peer.socket.sendall, begun + 599 * more + frame(0, b"x"))
    for _ in range(10):  # for several times the timeout
        peer.expect_ping()
    assert not session.close_reason.done()
    assert len(session.receive(PATIENCE)) == size + 1
    sent.result()


def test_bytes_that_a_thread_has_in_hand_are_a_sign_of_life(session_and_peer: Both) -> None:
    """A thread that has read them may have to wait for the interpreter before it counts them."""
    session, peer = session_and_peer
    before = session._attending._signs()
    peer.socket.sendall(b"x")
    assert session._transport.wait(read=True, timeout=PATIENCE)
    assert session._transport._sock.recv(10) == b"x"
    assert session._attending._signs().received != before.received


def test_a_pong_that_is_parsed_while_the_peer_is_judged_counts(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler comes to the pong after the ping has been found unanswered."""
    session, peer = make_session(ping_interval=0.1, timeout=0.3)

    def dead_and_answered(*_: object) -> bool:
        for ping in list(session._pings._outstanding):
            session._pings.answered(ping.payload)
        return True

    monkeypatch.setattr(Keepalive, "is_dead", dead_and_answered)
    for _ in range(5):
        peer.expect_ping()
    assert not session.close_reason.done()


def interrupt_until_closing(session: Session, thread: int) -> None:
    """If a signal comes right before a system call, Python runs its handler only after the call.
    One signal may therefore come too early to interrupt the call."""
    while session._reason is None:
        signal.pthread_kill(thread, signal.SIGUSR1)
        time.sleep(0.05)


def test_close_in_a_signal_handler_ends_the_receive_that_it_interrupts(
    session_and_peer: Both,
) -> None:
    session, peer = session_and_peer
    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, lambda *_: session.close(1001))

    def interrupt_and_answer() -> None:
        wait_until(lambda: session._reader._reading_thread == main)
        interrupt_until_closing(session, main)
        peer.answer_close()

    other = Background(interrupt_and_answer)
    began = time.monotonic()
    try:
        with pytest.raises(syncws.ConnectionClosed):
            session.receive()
        other.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - began < session.close_timeout / 2
    assert session.close_reason.result(PATIENCE).code == 1001


def test_close_in_a_signal_handler_lets_the_send_that_it_interrupts_go_on(
    session_and_peer: Both,
) -> None:
    """The peer begins to read later. It receives the whole message and then the Close, long before
    the deadline of the closing handshake."""
    session, peer = session_and_peer
    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, lambda *_: session.close(1001, timeout=PATIENCE * 100))

    def interrupt_and_read() -> None:
        wait_until(lambda: session._writer._writing_thread == main)
        interrupt_until_closing(session, main)
        assert peer.receive() == BIG
        assert peer.answer_close() == (1001, "")

    other = Background(interrupt_and_read)
    try:
        session.send(BIG)
        other.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert session.close_reason.result(PATIENCE).code == 1001


def test_close_in_a_signal_handler_ends_the_send_to_a_peer_that_reads_nothing(
    session_and_peer: Both,
) -> None:
    session, _ = session_and_peer
    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, lambda *_: session.close(timeout=0.3))

    def interrupt() -> None:
        wait_until(lambda: session._writer._writing_thread == main)
        interrupt_until_closing(session, main)

    other = Background(interrupt)
    began = time.monotonic()
    try:
        with pytest.raises(syncws.ConnectionClosed):
            session.send(BIG)
        other.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - began < session.close_timeout / 2


def test_close_in_a_signal_handler_that_comes_inside_the_tls_lock(
    make_session: MakeSession, certificate: tuple[Path, Path]
) -> None:
    """The handler runs in the thread that holds the lock, and must not wait for itself."""
    session, peer = make_session(sockets=tls_pair(certificate))
    transport = session._transport
    assert isinstance(transport, TlsTransport)

    def interrupted() -> None:
        with transport._tls_lock:
            session._start_closing(syncws.CloseReason(1001))

    Background(interrupted).result()
    assert peer.answer_close() == (1001, "")


@pytest.mark.parametrize("tls", [False, True])
def test_a_peer_that_reads_slowly_but_steadily_gets_the_whole_message(
    make_session: MakeSession, certificate: tuple[Path, Path], tls: bool
) -> None:
    """The message takes longer than the timeout, but the peer never stops reading for a whole
    timeout."""
    pair = partial(tls_pair, certificate) if tls else tcp_pair
    sockets = pair(receive_buffer=16_384)
    # A busy machine may hold this thread up for more than a second.
    session, peer = make_session(sockets=sockets, timeout=2.0, ping_interval=None)
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    message = bytes(2_000_000)
    sending = Background(session.send, message)
    began, read = time.monotonic(), 0
    while time.monotonic() - began < 3.5:
        read += len(peer.socket.recv(4_096))
        time.sleep(0.02)  # the pace of the peer
    assert read < len(message) / 2, "it would have been too quick to show anything"
    while read < len(message):
        more = peer.socket.recv(65_536)
        assert more, "the session has ended"
        read += len(more)
    sending.result()
    assert not session.close_reason.done()


def test_a_timeout_of_a_call_is_for_the_whole_call(make_session: MakeSession) -> None:
    """A peer that reads steadily does not extend the timeout of a call."""
    sockets = tcp_pair(receive_buffer=16_384)
    session, peer = make_session(sockets=sockets, ping_interval=None)
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    sending = Background(session.send, bytes(10_000_000), 0.3)
    with contextlib.suppress(ConnectionError):
        while peer.socket.recv(4_096):
            time.sleep(0.02)  # the pace of the peer
    error = sending.error()
    assert isinstance(error, syncws.SendTimeoutError), error


def test_a_second_sender_waits_while_the_peer_reads(make_session: MakeSession) -> None:
    """Progress of the message before it also renews the timeout of the second sender."""
    sockets = tcp_pair(receive_buffer=16_384)
    session, peer = make_session(sockets=sockets, timeout=0.4, ping_interval=None)
    sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    first = Background(session.send, bytes(300_000))
    wait_until(lambda: session._writer.write_lock.locked())
    second = Background(session.send, "second")
    began, received = time.monotonic(), b""
    while time.monotonic() - began < 1.2:
        received += peer.socket.recv(4_096)
        time.sleep(0.02)  # the pace of the peer
    while not received.endswith(b"second"):
        more = peer.socket.recv(65_536)
        assert more, "the session has ended"
        received += more
    first.result()
    second.result()


def test_flush_holds_no_lock_while_it_waits(make_session: MakeSession) -> None:
    session, peer = make_session(timeout=PATIENCE, ping_interval=None)
    big = PreparedMessage(BIG)
    assert session._writer.offer(big, 5)
    assert session._writer.offer(PreparedMessage("behind"), 5)
    flushing = Background(session.flush)
    wait_until(lambda: session._writer._blocked)
    assert session._writer.write_lock.acquire(timeout=PATIENCE)
    session._writer.write_lock.release()
    with pytest.raises(TimeoutError, match=r"not everything was written within 0\.05 s"):
        session.flush(0.05)
    assert peer.receive() == BIG
    assert peer.receive() == "behind"
    flushing.result()


def test_a_timeout_behind_a_skipped_stream_names_the_time_that_was_given(
    session_and_peer: Both,
) -> None:
    session, peer = session_and_peer
    peer.send("x" * 100_000)
    session.receive_stream(PATIENCE)
    with pytest.raises(TimeoutError, match=r"no message within 0\.05 s"):
        session.receive(0.05)


def test_a_ping_that_somebody_waits_for_is_noticed_at_once(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread is in receive(), and the ping thread would not read for a long time."""
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 1000)
    session, peer = make_session(ping_interval=None)
    for _ in range(2):
        pong = session.ping()
        peer.pong(peer.expect_ping())
        assert pong.result(PATIENCE) < PATIENCE


def test_a_handler_that_only_sends_notices_silence_in_the_middle_of_a_message(
    make_session: MakeSession, quick_stand_in: None
) -> None:
    """If an unfinished message stops reading ahead, neither the message nor a later fragment
    counts as a sign of life."""
    session, peer = make_session(ping_interval=0.2, timeout=0.5)
    begun = frame(2, bytes(read_ahead.MAX_QUEUED_BYTES), fin=False)
    peer.socket.sendall(begun[:-1000])
    wait_until(lambda: session._reader._protocol.kept_size > read_ahead.MAX_QUEUED_BYTES - 2000)
    peer.socket.sendall(begun[-1000:] + frame(0, b"x", fin=False))
    assert session.close_reason.result(PATIENCE).cause == "ping_timeout"


@pytest.mark.parametrize("seconds", [math.inf, 1e12, 1e300])
def test_every_large_time_works(make_session: MakeSession, seconds: float) -> None:
    session, peer = make_session()
    peer.send("a")
    assert session.receive(seconds) == "a"
    session.send("b", timeout=seconds)
    assert peer.receive() == "b"
    session.flush(seconds)
    closing = Background(session.close, timeout=seconds)
    peer.answer_close()
    closing.result()
    assert session.wait_closed(seconds).code == 1000


def test_a_time_that_is_not_a_number_is_refused(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    calls: list[Any] = [
        session.receive,
        session.receive_stream,
        session.receive_json,
        lambda timeout: session.send("a", timeout),
        session.flush,
        lambda timeout: session.close(timeout=timeout),
        session.wait_closed,
        lambda timeout: session.outgoing.send("a", timeout),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="timeout is a number of seconds, not nan"):
            call(math.nan)
    session.send("the session goes on")


def test_a_signal_handler_that_pings_or_flushes_is_told_at_once_what_it_can_do(
    session_and_peer: Both,
) -> None:
    session, _ = session_and_peer
    main = threading.get_ident()
    refused: list[str] = []

    def on_signal(*_: object) -> None:
        for call in (session.ping, session.flush):
            try:
                call()
            except RuntimeError as exc:
                refused.append(str(exc))
        assert not session._pings.awaited
        session.terminate()

    before = signal.signal(signal.SIGUSR1, on_signal)

    def interrupt() -> None:
        wait_until(lambda: session._writer._writing_thread == main)
        interrupt_until_closing(session, main)

    other = Background(interrupt)
    try:
        with pytest.raises(syncws.ConnectionClosed):
            session.send(BIG)
        other.result()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(refused) == 2
    assert all("not send, ping or flush" in text for text in refused)


def test_a_broken_connection_is_noticed_however_long_a_close_may_take(
    make_session: MakeSession,
) -> None:
    session, peer = make_session(close_timeout=1e300)
    reset(peer.socket)
    wait_until(session._transport.readable)
    with pytest.raises(syncws.ConnectionClosed):
        session.send("x")
