"""Sending: whole frames, deadlines, control frames that never wait."""

from __future__ import annotations

from typing import Any

import pytest
from wsproto.frame_protocol import FrameProtocol

import syncws
from syncws import CloseReason, Session
from syncws.system.transport import Transport

from ..conftest import MakeSession
from ..support import faults
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.pairs import PATIENCE, Peer, frame

Both = tuple[Session, Peer]


def test_sixteen_threads_send_at_once(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    sizes = [10, 200, 70_000]

    def send(sender: int) -> None:
        for number in range(30):
            session.send(f"{sender}:{number}:" + chr(65 + sender) * sizes[number % 3])

    senders = [Background(send, sender) for sender in range(16)]
    numbers = dict.fromkeys(range(16), 0)
    for _ in range(16 * 30):
        sender, number, text = str(peer.receive()).split(":")
        assert int(number) == numbers[int(sender)], "each sender's messages in order"
        assert text == chr(65 + int(sender)) * sizes[int(number) % 3]
        numbers[int(sender)] += 1
    for background in senders:
        background.result()


@pytest.mark.usefixtures("quick_stand_in")
def test_a_pong_finds_room_in_a_full_socket_later(make_session: MakeSession) -> None:
    """Answering a ping never waits. If there is no room for the pong, it is sent later."""
    session, peer = make_session()
    sender = Background(session.send, BIG)
    wait_until(lambda: session._writer.write_lock.locked())
    peer.ping(b"first")
    peer.ping(b"latest")
    peer.send("and a message")
    assert session.receive(PATIENCE) == "and a message", "reading went on"
    assert peer.receive() == BIG
    assert peer.expect_pong() == b"latest", "one slot is enough"
    sender.result()


def test_two_peers_with_full_buffers_do_not_wait_for_each_other(
    make_session: MakeSession,
) -> None:
    session, peer = make_session()
    sender = Background(session.send, BIG)
    # The peer writes as much before it reads anything; the session's handler
    # is in send(), so the ping thread has to read.
    session.timeout = PATIENCE
    messages = [b"y" * 60_000] * 4
    for message in messages:
        peer.send(message)
    assert peer.receive() == BIG
    sender.result()
    assert [session.receive(PATIENCE) for _ in messages] == messages


def test_c3_peer_that_stops_reading_is_dropped(make_session: MakeSession) -> None:
    session, peer = make_session(timeout=0.1)
    faults.stall(peer.socket)
    received = Background(session.receive)
    with pytest.raises(syncws.SendTimeoutError) as caught:
        session.send(BIG)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, syncws.ConnectionClosedError)
    assert caught.value.reason.cause == "send_timeout"
    assert closed(received).cause == "send_timeout", "whoever waits wakes up"
    assert session.wait_closed(PATIENCE).code == 1006


def test_send_timeout_of_its_own(make_session: MakeSession) -> None:
    session, peer = make_session()
    faults.stall(peer.socket)
    with pytest.raises(TimeoutError):
        session.send(BIG, timeout=0.05)
    assert session.wait_closed(PATIENCE).cause == "send_timeout"


def test_a_sender_waits_its_turn_no_longer_than_it_wants(make_session: MakeSession) -> None:
    session, peer = make_session()
    first = Background(session.send, BIG)
    wait_until(lambda: session._writer.write_lock.locked())
    with pytest.raises(TimeoutError, match="nothing was sent, try again") as caught:
        session.send("second", timeout=0.05)
    assert not isinstance(caught.value, syncws.ConnectionClosed)
    assert peer.receive() == BIG
    first.result()
    session.send("second")
    assert peer.receive() == "second"


@pytest.mark.parametrize("timeout", [float("inf"), 1e7, 1e300])
def test_endless_timeouts_are_as_good_as_any(make_session: MakeSession, timeout: float) -> None:
    session, peer = make_session()
    sender = Background(session.send, BIG, timeout)
    assert peer.receive() == BIG
    sender.result()
    received = Background(session.receive, timeout)
    peer.send("x")
    assert received.result() == "x"
    session.ping_interval = session.timeout = min(timeout, 1e300)
    closing = Background(session.close, timeout=timeout)
    assert peer.answer_close() == (1000, "")
    closing.result()
    assert session.wait_closed(PATIENCE) == CloseReason(1000, "", "local")


class Interrupted(Transport):
    """A signal handler raises while a thread waits for room."""

    def wait(self, *, write: bool = False, **others: Any) -> bool:
        if write:
            raise KeyboardInterrupt
        return super().wait(write=write, **others)


def test_a_write_that_is_interrupted_leaves_no_cut_frame_behind(
    make_session: MakeSession,
) -> None:
    session, _ = make_session(transport=Interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.send(BIG)
    with pytest.raises(syncws.ConnectionClosedError):
        session.send("inside the frame that was cut")


def test_a_frame_that_was_encoded_and_not_written_ends_the_session(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one would be encoded as if the peer had it. Here a signal handler raises between."""
    session, _ = make_session()
    encode = FrameProtocol.send_data

    def encode_in_vain(*args: Any, **options: Any) -> bytes:
        encode(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(FrameProtocol, "send_data", encode_in_vain)
    with pytest.raises(KeyboardInterrupt):
        session.send(["in ", "fragments"])
    with pytest.raises(syncws.ConnectionClosedError, match="interrupted"):
        session.send("inside a message that never began")


def test_a_ping_that_found_no_room_goes_out_later(make_session: MakeSession) -> None:
    """If the peer answers the late ping, the peer is alive."""
    session, peer = make_session(ping_interval=None)
    transport = session._transport
    while transport.send_now(frame(10, b"filler")):  # unmasked pongs would do as well
        pass
    assert session._writer.try_ping(b"payload!")
    session._wakeup.set()
    peer.socket.settimeout(PATIENCE)
    data = b""
    while not data.endswith(b"\x89\x08payload!"):
        received = peer.socket.recv(1 << 20)
        assert received
        data = data[-10:] + received


def test_the_close_on_the_wire_is_the_one_in_close_reason(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    for number in range(4000, 4008):
        Background(session._start_closing, CloseReason(number)).result()
    code, _ = peer.answer_close()
    assert session.wait_closed(PATIENCE).code == code == 4000
