"""Limits on the messages of a session, and on the sessions of a client."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import syncws
from syncws import (
    ConcurrencyError,
    ConnectionClosed,
    HandshakeError,
    Options,
    Rate,
    RawSession,
    Session,
)
from syncws.limits import Bucket
from syncws.session import read_ahead
from syncws.system.transport import _LAST_ACK_RECV, _UNACKED, Transport
from syncws.testing import WebSocketClient

from ..support.background import Background, wait_until
from ..support.faults import end_of_file, reset
from ..support.pairs import PATIENCE, frame, tls_pair

# The arithmetic


def test_a_bucket_holds_a_burst_and_is_filled_with_time() -> None:
    bucket = Bucket(Rate(20, per=2.0, burst=3), 100.0)
    for _ in range(3):
        assert bucket.wait() == 0.0
        bucket.take()
    assert bucket.wait() == pytest.approx(0.1)
    bucket.fill(100.05)
    assert bucket.wait() == pytest.approx(0.05)
    bucket.fill(100.1)
    assert bucket.wait() == 0.0
    bucket.fill(200.0)
    bucket.cap()
    for _ in range(3):
        bucket.take()
    assert bucket.wait() > 0.0, "a quiet time gives no more than the burst"


def test_a_bucket_has_room_for_one_message_at_least() -> None:
    bucket = Bucket(Rate(1, per=60.0), 0.0)
    assert bucket.wait() == 0.0
    bucket.take()
    assert bucket.wait() == pytest.approx(60.0)
    assert Bucket(Rate(0.5), 0.0).wait() == 0.0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"messages": 0}, ValueError),
        ({"messages": "20"}, TypeError),
        ({"messages": True}, TypeError),
        ({"messages": 1, "per": 0}, ValueError),
        ({"messages": 1, "per": float("inf")}, ValueError),
        ({"messages": float("nan")}, ValueError),
        ({"messages": 1, "burst": 0.5}, ValueError),
        ({"messages": 1, "over": "drop"}, ValueError),
    ],
)
def test_a_rate_that_can_not_be_is_refused(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"Rate|burst is at least|over is"):
        Rate(**arguments)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"rate": 20}, TypeError, r"rate is a Rate, such as syncws.Rate\(20\)"),
        ({"rate": Rate(20), "raw": True}, ValueError, "a raw session has frames"),
        ({"max_sessions": 1}, ValueError, "belong together"),
        ({"sessions_per": len}, ValueError, "belong together"),
        ({"sessions_per": "REMOTE_ADDR", "max_sessions": 1}, TypeError, "function of the environ"),
        ({"sessions_per": len, "max_sessions": 0}, ValueError, "at least 1"),
        ({"sessions_per": len, "max_sessions": "1"}, TypeError, "is an int"),
    ],
)
def test_options_that_can_not_be_are_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Options(**options)


# Messages


def receive_some(session: Session, number: int) -> float:
    began = monotonic()
    for _ in range(number):
        session.receive(timeout=PATIENCE)
    return monotonic() - began


def test_f11_over_wait_receive_waits(make_session: Any) -> None:
    session, peer = make_session(rate=Rate(10, per=0.1, burst=5))
    peer.send_bytes(20 * frame(1, b"x"))
    assert receive_some(session, 20) >= 0.14, "a burst, and the others, one in 10 ms"


def test_f11_a_burst_does_not_wait(make_session: Any) -> None:
    session, peer = make_session(rate=Rate(1, per=600.0, burst=5))
    peer.send_bytes(6 * frame(1, b"x"))
    for _ in range(5):
        assert session.receive(PATIENCE) == "x"
    with pytest.raises(TimeoutError):
        session.receive(timeout=0.05)


def test_f11_pings_are_answered_while_messages_wait(
    make_session: Any, quick_stand_in: None
) -> None:
    session, peer = make_session(rate=Rate(1, per=PATIENCE))
    peer.send("now")
    peer.send("later")
    assert session.receive() == "now"
    with ThreadPoolExecutor() as pool:
        received = pool.submit(session.receive)
        peer.ping(b"there?")
        assert peer.expect_pong() == b"there?"
        assert not received.done()
        session.terminate()
        assert received.result(PATIENCE) == "later", "what has arrived before the end is delivered"


def test_f11_a_peers_close_ends_the_wait(make_session: Any, quick_stand_in: None) -> None:
    session, peer = make_session(rate=Rate(1, per=600.0))
    peer.send("now")
    assert session.receive() == "now"
    with ThreadPoolExecutor() as pool:
        received = pool.submit(session.receive)
        peer.send_close()
        with pytest.raises(ConnectionClosed):
            received.result(PATIENCE)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("go", [reset, end_of_file])
def test_f11_a_peer_that_fills_the_buffers_and_goes_does_not_keep_its_session(
    make_session: Any,
    certificate: tuple[Path, Path],
    quick_stand_in: None,
    go: Callable[[socket.socket], None],
    tls: bool,
) -> None:
    session, peer = make_session(
        sockets=tls_pair(certificate) if tls else None,
        rate=Rate(1, per=600.0),
        ping_interval=0.1,
        timeout=0.2,
    )
    peer.send_bytes(1000 * frame(1, b"x" * 100))
    received: list[str] = []
    receiving = Background(lambda: received.extend(session))
    wait_until(lambda: session._reader.limited and session._reader.waits_for_handler)
    for _ in range(5):
        peer.expect_ping()
    assert not session.close_reason.done(), "while it is there, it is held back"
    go(peer.socket)
    with pytest.raises(ConnectionClosed):
        receiving.result()
    assert session.close_reason.result(PATIENCE).cause == "ping_timeout"
    assert len(received) >= read_ahead.MAX_QUEUED_MESSAGES, "what was read ahead is received"


class OfSilentSystem(Transport):
    """The peer's system stops answering when ``silent`` is set."""

    silent = False

    def _counted_by_linux(self, field: int, size: int) -> int | None:
        told = {_UNACKED: 1, _LAST_ACK_RECV: 200} if self.silent else {}
        return told.get(field) or super()._counted_by_linux(field, size)


def test_f11_a_peer_whose_system_is_silent_does_not_keep_its_session(
    make_session: Any, quick_stand_in: None
) -> None:
    """Its cable was pulled: nothing arrives that would say so."""
    session, peer = make_session(
        transport=OfSilentSystem, rate=Rate(1, per=600.0), ping_interval=0.1, timeout=0.2
    )
    peer.send_bytes(1000 * frame(1, b"x" * 100))
    receiving = Background(lambda: list(session))
    wait_until(lambda: session._reader.limited and session._reader.waits_for_handler)
    session._transport.silent = True
    with pytest.raises(ConnectionClosed):
        receiving.result()
    assert session.close_reason.result(PATIENCE).cause == "ping_timeout"


def test_a_slow_handler_gets_everything_from_a_peer_that_has_gone(
    make_session: Any, quick_stand_in: None
) -> None:
    """Here the handler holds the peer back, and not a limit."""
    session, peer = make_session(rate=Rate(1e6), ping_interval=0.1, timeout=0.2)
    peer.send_bytes(1000 * frame(1, b"x" * 100))
    wait_until(lambda: session._reader.waits_for_handler)
    for _ in range(5):
        peer.expect_ping()
    peer.socket.shutdown(socket.SHUT_WR)
    for _ in range(5):
        peer.expect_ping()
    assert receive_some(session, 1000) < PATIENCE


def test_f11_a_timeout_loses_nothing_while_messages_wait(make_session: Any) -> None:
    session, peer = make_session(rate=Rate(1, per=600.0))
    peer.send("now")
    peer.send("later")
    assert session.receive() == "now"
    for timeout in (0, 0.05):
        with pytest.raises(TimeoutError, match=f"no message within {timeout}"):
            session.receive(timeout)
    session._reader._bucket._tokens = 1.0
    assert session.receive(timeout=PATIENCE) == "later"


def test_a_second_receive_is_refused_while_messages_wait(make_session: Any) -> None:
    session, peer = make_session(rate=Rate(1, per=600.0))
    peer.send("now")
    assert session.receive() == "now"
    with ThreadPoolExecutor() as pool:
        received = pool.submit(session.receive)
        # Held while the receiver waits for the limit.
        wait_until(session._reader._counting.locked)
        with pytest.raises(ConcurrencyError):
            session.receive()
        session.terminate()
        with pytest.raises(ConnectionClosed):
            received.result(PATIENCE)


def test_f11_over_close_the_session_is_closed_with_1008(make_session: Any) -> None:
    session, peer = make_session(rate=Rate(3, per=600.0, over="close"))
    for number in range(5):
        peer.send(str(number))
    assert [session.receive() for _ in range(3)] == ["0", "1", "2"]
    for _ in range(2):
        with pytest.raises(ConnectionClosed) as caught:
            session.receive()
        reason = caught.value.reason
        assert (reason.code, reason.reason) == (1008, "more than 3 messages in 600 s")
    assert peer.expect_close() == (1008, "more than 3 messages in 600 s")


def test_f11_messages_that_piled_up_are_not_a_flood(make_session: Any) -> None:
    """If a peer keeps to the rate and the handler is busy, the session is not closed."""
    rate = Rate(100, per=1.0, burst=2, over="close")
    session, peer = make_session(rate=rate)
    began = monotonic()
    for number in range(10):
        peer.send(str(number))
    while monotonic() < began + 0.1:
        pass  # the handler computes
    assert [session.receive() for _ in range(10)] == [str(number) for number in range(10)]
    with pytest.raises(TimeoutError):
        session.receive(timeout=0)
    # At the rate these would take a minute: a slow machine is not that slow.
    peer.send_bytes(6000 * frame(1, b"x"))
    with pytest.raises(ConnectionClosed):
        receive_some(session, 6000)


@pytest.mark.parametrize("over", ["wait", "close"])
def test_f11_fragments_and_streams_count_once(make_session: Any, over: Any) -> None:
    session, peer = make_session(rate=Rate(2, per=600.0, over=over))
    for _ in range(2):
        peer.send_bytes(frame(1, b"a" * 10, fin=False))
        for number in range(49):
            peer.send_bytes(frame(0, b"a" * 10, fin=number == 48))
    assert session.receive() == "a" * 500
    assert session.receive_stream(timeout=PATIENCE).read() == "a" * 500
    peer.send("one too many")
    error = TimeoutError if over == "wait" else ConnectionClosed
    with pytest.raises(error):
        session.receive(timeout=0.05)


def test_without_a_rate_nothing_is_counted(make_session: Any) -> None:
    session, _ = make_session()
    assert type(session._reader).__name__ == "Reader"


# Sessions of a client


def of_user(environ: dict[str, Any]) -> str | None:
    user: str | None = environ.get("HTTP_X_USER")
    return user


def wait(session: Session) -> None:
    session.receive()


def test_f11_a_client_with_too_many_sessions_gets_429() -> None:
    application = syncws.websocket(wait, sessions_per=of_user, max_sessions=2)
    other = syncws.websocket(wait, sessions_per=of_user, max_sessions=2)
    apart = syncws.websocket(wait, sessions_per=lambda environ: "all", max_sessions=2)

    def connect(application: Any, user: str) -> Any:
        return WebSocketClient(application).connect("/", headers={"X-User": user})

    with connect(application, "ann") as first, connect(other, "ann"):
        with pytest.raises(HandshakeError, match="429") as caught:
            connect(application, "ann")
        assert caught.value.body == (b"This client has 2 sessions open, as many as it may have.\n")
        with connect(application, "bob"), connect(apart, "ann"):
            pass
        first.close()
        with connect(application, "ann"):
            pass
    with connect(application, "ann"), connect(application, "ann"):
        pass


def test_f11_clients_without_a_name_are_not_counted() -> None:
    client = WebSocketClient(syncws.websocket(wait, sessions_per=of_user, max_sessions=1))
    with client.connect("/"), client.connect("/"):
        pass


def test_a_client_that_can_not_be_counted_is_an_error_that_says_so() -> None:
    def users(environ: dict[str, Any]) -> Any:
        return ["ann"]

    application = syncws.websocket(wait, sessions_per=users, max_sessions=1)
    with pytest.raises(TypeError, match=r"sessions_per returns .* or None, not \['ann'\]"):
        WebSocketClient(application).connect("/")


def test_f11_raw_sessions_are_counted_too_and_so_are_those_that_fail() -> None:
    def fail(session: RawSession) -> None:
        raise RuntimeError("on purpose")

    application = syncws.websocket(
        fail, raw=True, sessions_per=lambda environ: "all", max_sessions=1
    )
    client = WebSocketClient(application, raise_exceptions=False)
    for _ in range(3):
        client.connect("/").close()


def test_f11_the_same_with_serve() -> None:
    with syncws.serve(
        wait, "127.0.0.1", 0, sessions_per=lambda environ: environ["REMOTE_ADDR"], max_sessions=1
    ) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with syncws.connect(url), pytest.raises(HandshakeError, match="429"):
            syncws.connect(url)
