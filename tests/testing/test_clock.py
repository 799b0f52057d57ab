"""``syncws.testing.Clock``: time that stands still until a test moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

import syncws
from syncws import Session
from syncws.session import reader
from syncws.testing import Clock, Peer, WebSocketClient

from ..support.pairs import PATIENCE


@syncws.websocket
def echo(session: Session) -> None:
    for message in session:
        session.send(message)


def connected(handler: Callable[[Session], Any], **options: Any) -> Peer:
    return WebSocketClient(syncws.WebSocketUpgrade(handler, **options)).connect("/")


def reason_of(peer: Peer) -> syncws.CloseReason:
    return peer.session.wait_closed(PATIENCE)


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock() as clock:
        yield clock


def test_pings_come_when_their_time_has_come(clock: Clock) -> None:
    with WebSocketClient(echo).connect("/") as peer:
        for _ in range(50):
            clock.advance(20)
            peer.receive_ping()
        clock.advance(19)
        with pytest.raises(TimeoutError):
            peer.receive_ping(timeout=0)


def test_a_session_whose_pings_are_answered_lives_for_ever(clock: Clock) -> None:
    """Nobody waits for the pings here: advance() sees to it that they are answered."""
    with WebSocketClient(echo).connect("/") as peer:
        for _ in range(300):
            clock.advance(20)
        peer.send("still here")
        assert peer.receive() == "still here"


def test_a_dead_peer_is_noticed(clock: Clock) -> None:
    peer = WebSocketClient(echo).connect("/")
    peer.answer_pings = False
    clock.advance(20)
    peer.receive_ping()
    clock.advance(20)
    assert reason_of(peer).cause == "ping_timeout"
    peer.close()


def test_a_dead_peer_is_noticed_while_the_handler_does_something_else(clock: Clock) -> None:
    ended = threading.Event()
    peer = connected(lambda session: ended.wait(PATIENCE))
    peer.answer_pings = False
    with pytest.raises(TimeoutError, match=r"(?s)ended\.wait.*wait=False"):
        # It does not wait for its peer.
        advance_impatiently(clock, 20)
    clock.advance(20, wait=False)
    clock.advance(20, wait=False)
    assert reason_of(peer).cause == "ping_timeout"
    ended.set()
    peer.close()


def advance_impatiently(clock: Clock, seconds: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("syncws.testing.clock.PATIENCE", 0.01)
        clock.advance(seconds)


def test_a_handlers_time_out(clock: Clock) -> None:
    def impatient(session: Session) -> None:
        while True:
            try:
                session.receive(timeout=60)
            except TimeoutError:
                session.send("are you there?")

    with connected(impatient, ping_interval=None) as peer:
        for _ in range(20):
            clock.advance(59.9)
            peer.send("yes")
        for _ in range(20):
            clock.advance(60)
            assert peer.receive() == "are you there?"


def test_a_peer_that_does_not_read(clock: Clock) -> None:
    def sends(session: Session) -> None:
        while True:
            session.send(b"x" * 100_000)

    peer = connected(sends, timeout=30, ping_interval=None)
    peer.stall()
    clock.advance(29)
    assert cast(Session, peer.session)._reason is None
    # Bytes that the peer read just before it stalled may be noticed only now, and renew the time.
    clock.advance(31)
    assert reason_of(peer).cause == "send_timeout"
    peer.close()


def test_a_peer_that_never_answers_the_close(clock: Clock) -> None:
    def closes(session: Session) -> None:
        session.close()

    client = WebSocketClient(syncws.websocket(closes))
    peer = client.connect("/", answer_close=False)
    assert peer.wait_closed().code == 1000
    clock.advance(9)
    assert not peer.session.close_reason.done()
    clock.advance(1)
    assert reason_of(peer).code == 1000
    peer.close()


def test_time_goes_on_when_the_clock_is_put_away() -> None:
    before = vars(reader)["monotonic"]
    with Clock() as clock:
        assert vars(reader)["monotonic"]() == clock.monotonic()
        with pytest.raises(RuntimeError, match="another"), Clock():
            pass
        with pytest.raises(ValueError, match="goes on"):
            clock.advance(-1)
    assert vars(reader)["monotonic"] is before
