"""What a bad day brings: unfinished messages, signals, times of every size."""

from __future__ import annotations

import math
import signal
import threading
import time
from typing import Any

import pytest

import syncws
from syncws import Session

from ..conftest import MakeSession
from ..support.background import BIG, Background, wait_until
from ..support.pairs import PATIENCE, Peer, frame

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


def interrupt_until_closing(session: Session, thread: int) -> None:
    """Python notes a signal that comes right before a system call, and runs its handler after
    the call. So one signal may come too early to interrupt anything."""
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


def test_close_in_a_signal_handler_ends_the_send_that_it_interrupts(
    session_and_peer: Both,
) -> None:
    """The peer reads nothing, so no Close can be sent: the session ends by the deadline."""
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
    ]
    for call in calls:
        with pytest.raises(ValueError, match="timeout is a number of seconds, not nan"):
            call(math.nan)
    session.send("the session goes on")
