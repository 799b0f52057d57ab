"""Raw sessions when their server stops, and that nothing is left of them."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

import syncws
from syncws import (
    CloseReason,
    Frame,
    Opcode,
    RawSession,
)
from syncws.system.scheduler import SCHEDULER
from syncws.system.transport import Transport

from ..conftest import MakeRaw
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.certificates import make_certificate
from ..support.clients import exchange, handshake
from ..support.pairs import PATIENCE, Peer, frame

Both = tuple[RawSession, Peer]

GOING_AWAY = CloseReason(1001, "", "shutdown")
CLOSE = Frame(Opcode.CLOSE, (1000).to_bytes(2, "big") + b"bye")


class Full(Transport):
    """A connection whose peer does not read, with room for one byte, until it ``reads``."""

    reads = False

    def send_now(self, data: bytes | memoryview) -> int:
        if self.reads:
            return super().send_now(data)
        return 0 if self.sent else super().send_now(data[:1])

    def wait(self, *, write: bool = False, **others: Any) -> bool:
        return (self.reads or not write) and super().wait(write=write, **others)


def test_the_server_sends_1001_and_frames_still_arrive(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    received = Background(session.receive_frame)
    session._start_closing(GOING_AWAY)
    session._start_closing(GOING_AWAY)
    assert peer.expect_close() == (1001, "")
    peer.send_bytes(frame(1, b"on its way"))
    assert received.result().payload == b"on its way"
    for sent in (Frame(Opcode.TEXT, b"x"), CLOSE, Frame(11, unchecked=True)):
        with pytest.raises(syncws.ConnectionClosedOK) as info:
            session.send_frame(sent)
        assert info.value.reason == GOING_AWAY
    peer.send_bytes(frame(8, b"\x03\xe9"))
    assert session.receive_frame(PATIENCE) == Frame(Opcode.CLOSE, b"\x03\xe9")
    assert session.close_reason.result(0) == GOING_AWAY
    peer.expect_end()
    session._start_closing(GOING_AWAY)


def test_the_server_answers_a_close_that_the_handler_has_not(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    peer.send_bytes(frame(8, b"\x0f\xa0"))
    session.receive_frame(PATIENCE)
    session._start_closing(GOING_AWAY)
    assert peer.expect_close() == (1001, "")
    peer.expect_end()
    assert not session.close_reason.done(), "no callback of a user's runs in the server's thread"
    with pytest.raises(syncws.ConnectionClosedError):
        session.receive_frame()
    assert session.wait_closed(0) == CloseReason(4000, "", "peer")


def test_the_server_sends_no_second_close(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    session.send_frame(CLOSE)
    session._start_closing(GOING_AWAY)
    peer.send_bytes(frame(8))
    session.receive_frame(PATIENCE)
    assert peer.expect_close() == (1000, "bye")
    peer.expect_end()


@pytest.mark.parametrize("receiving", [False, True])
def test_a_peer_that_never_answers_the_servers_close_is_dropped(
    make_raw: MakeRaw, receiving: bool
) -> None:
    session, peer = make_raw(close_timeout=0.1)
    received = Background(session.receive_frame) if receiving else None
    session._start_closing(GOING_AWAY)
    assert peer.expect_close() == (1001, "")
    peer.expect_end()
    if received is None:
        with pytest.raises(syncws.ConnectionClosedOK):
            session.receive_frame()
    else:
        assert closed(received) == GOING_AWAY
    assert session.wait_closed(PATIENCE) == GOING_AWAY


def test_the_servers_close_waits_for_the_frame_being_written(make_raw: MakeRaw) -> None:
    session, peer = make_raw()
    sender = Background(session.send_frame, Frame(Opcode.BINARY, BIG))
    wait_until(lambda: session._transport.sent)
    session._start_closing(GOING_AWAY)
    assert peer.receive() == BIG
    assert peer.expect_close() == (1001, "")
    sender.result()


@pytest.mark.parametrize("last_chance", ["a frame written", "the handler returns", "the deadline"])
def test_the_servers_close_waits_for_room(make_raw: MakeRaw, last_chance: str) -> None:
    session, peer = make_raw(transport=Full)
    transport = session._transport
    assert isinstance(transport, Full)
    session._start_closing(GOING_AWAY)
    assert session._transport.sent == 1
    session._start_closing(GOING_AWAY)
    assert session._transport.sent == 1
    transport.reads = True
    ending = None
    if last_chance == "a frame written":
        with pytest.raises(syncws.ConnectionClosedOK):
            session.send_frame(Frame(Opcode.PING))
    elif last_chance == "the deadline":
        session.on_time(0.0)
    else:
        ending = Background(session._end, CloseReason())
    assert peer.expect_close() == (1001, "")
    peer.close_socket()
    if ending is not None:
        ending.result()


def test_no_thread_is_started(raw_and_peer: Both) -> None:
    session, peer = raw_and_peer
    assert not [t for t in threading.enumerate() if t.name.startswith("syncws ping")]
    peer.send_bytes(frame(9))
    session.receive_frame(PATIENCE)
    assert {t.name for t in threading.enumerate()} <= {"MainThread", "syncws scheduler"}


def test_the_clock_forgets_a_session_that_is_over(make_raw: MakeRaw) -> None:
    session, peer = make_raw()
    assert session in SCHEDULER._members
    session._start_closing(GOING_AWAY)
    peer.answer_close()
    session._conclude(CloseReason())
    assert session not in SCHEDULER._members
    assert session not in SCHEDULER._tick_of
    session._conclude(CloseReason())


def test_over_tls_with_the_server_stopping(tmp_path: Path) -> None:
    def echo(session: RawSession) -> None:
        while True:
            session.send_frame(session.receive_frame())

    key, cert = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with syncws.serve(echo, "localhost", 0, context, raw=True) as server:
        clients = ssl.create_default_context(cafile=str(cert))
        clients.check_hostname = False
        _, sock, _ = exchange(server.port, handshake("/"), tls=clients)
        peer = Peer(sock)
        for message in (b"small", b"x" * 500_000):
            peer.send(message)
            assert peer.receive() == message
        stopping = Background(server.shutdown)
        assert peer.answer_close() == (1001, "")
        stopping.result()
        peer.close_socket()
