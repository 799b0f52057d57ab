"""Messages that are encoded once, and offered to sessions without waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import pytest
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import FrameProtocol

import syncws
from syncws import PreparedMessage, Session
from syncws.protocol.deflate import Deflate
from syncws.protocol.deflate_offers import negotiate_deflate
from syncws.protocol.messages import Protocol
from syncws.session import output

from ..conftest import MakeSession
from ..support import faults
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.pairs import PATIENCE, Peer

Both = tuple[Session, Peer]


@pytest.mark.parametrize("data", ["", "héllo", b"\x00" * 200, "x" * 70_000])
def test_is_the_frame_that_send_would_write(data: str | bytes) -> None:
    head, payload = Protocol(max_message_size=1).message(data)
    assert PreparedMessage(data).frame == head + bytes(payload)


def test_a_client_masks_it_anew() -> None:
    ours = Protocol(max_message_size=1, client=True)
    prepared = PreparedMessage("from a client")
    theirs = FrameProtocol(client=False, extensions=[])
    frames = {bytes(ours.prepared(prepared)[0]) for _ in range(2)}
    assert len(frames) == 2
    for frame in frames:
        theirs.receive_bytes(frame)
    assert [frame.payload for frame in theirs.received_frames()] == ["from a client"] * 2


def test_bytes_are_not_copied() -> None:
    data = b"x" * 1_000_000
    assert PreparedMessage(data).data is data


def test_a_later_change_of_the_data_has_no_effect() -> None:
    buffer = bytearray(b"now")
    prepared = PreparedMessage(buffer)
    buffer[:] = b"new"
    assert prepared.data == b"now"


def test_send_takes_it(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    prepared = PreparedMessage("for many")
    session.send(prepared)
    session.outgoing.send(prepared).result(PATIENCE)
    session.send("whole")
    assert [peer.receive() for _ in range(3)] == ["for many", "for many", "whole"]


@pytest.mark.parametrize("no_takeover", [False, True])
def test_once_for_each_compression(no_takeover: bool) -> None:
    """A prepared message lies between compressed messages that refer to each other."""
    options = Deflate(min_size=0, server_no_context_takeover=no_takeover)
    text = "a message that repeats itself, a message that repeats itself"
    prepared = PreparedMessage(text)
    frames = set()
    for _ in range(2):
        agreed = negotiate_deflate(["permessage-deflate"], options, 1_000_000)
        assert agreed is not None
        ours = Protocol(max_message_size=1_000_000, deflate=agreed[0])
        extension = PerMessageDeflate()
        extension.finalize(agreed[1])
        theirs = FrameProtocol(client=True, extensions=[extension])
        for message in (text, prepared, text, prepared, prepared, text):
            if isinstance(message, str):
                frame = b"".join(bytes(part) for part in ours.message(message))
            else:
                frame = bytes(ours.prepared(message)[0])
                frames.add(frame)
            theirs.receive_bytes(frame)
            (received,) = theirs.received_frames()
            assert received.payload == text
    assert len(frames) == 1, "the same for both sessions"
    assert len(frames.pop()) < len(text)


def test_an_offer_never_waits_and_keeps_its_place(make_session: MakeSession) -> None:
    session, peer = make_session(timeout=PATIENCE)
    big = PreparedMessage(BIG)
    offers = [PreparedMessage(str(number)) for number in range(5)]
    assert session._writer.offer(big, 5), "what the socket does not take waits"
    assert all(session._writer.offer(offer, 5) for offer in offers)
    assert not session._writer.offer(PreparedMessage("one too many"), 5)
    later = Background(session.send, "later")
    assert peer.receive() == BIG
    assert [peer.receive() for _ in range(6)] == ["0", "1", "2", "3", "4", "later"]
    later.result()
    assert session._writer.offer(PreparedMessage("at once"), 1)
    assert peer.receive() == "at once"


def test_offers_go_out_without_anybody_sending(session_and_peer: Both) -> None:
    """The queue is sent as soon as the peer reads, whatever the handler does."""
    session, peer = session_and_peer
    session._writer.offer(PreparedMessage(BIG), 5)
    session._writer.offer(PreparedMessage("behind"), 5)
    assert peer.receive() == BIG
    assert peer.receive() == "behind"


def test_offers_wait_for_the_end_of_a_message_in_fragments(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    begun, go_on = threading.Event(), threading.Event()

    def parts() -> Iterator[str]:
        yield "first "
        begun.set()
        assert go_on.wait(PATIENCE)
        yield "last"

    sender = Background(session.send, parts())
    assert begun.wait(PATIENCE)
    assert session._writer.offer(PreparedMessage("offered"), 5)
    go_on.set()
    sender.result()
    assert peer.receive() == "first last"
    assert peer.receive() == "offered"


def test_offers_from_many_threads_keep_each_ones_order(session_and_peer: Both) -> None:
    session, peer = session_and_peer

    def offer(name: str) -> None:
        for number in range(200):
            assert session._writer.offer(PreparedMessage(f"{name} {number}"), 10_000)

    calls = [Background(offer, name) for name in "abcd"]
    received = [str(peer.receive()) for _ in range(800)]
    for call in calls:
        call.result()
    for name in "abcd":
        assert [m for m in received if m[0] == name] == [f"{name} {n}" for n in range(200)]


@pytest.mark.parametrize("ping_interval", [None, 20])
def test_a_peer_that_never_reads_is_dropped(
    make_session: MakeSession, ping_interval: float | None
) -> None:
    session, _ = make_session(timeout=0.2, ping_interval=ping_interval)
    assert session._writer.offer(PreparedMessage(BIG), 5)
    assert session.wait_closed(PATIENCE).cause == "send_timeout"


@pytest.mark.parametrize("receiving", [True, False])
def test_a_reset_ends_a_session_with_offers_that_wait(
    make_session: MakeSession, quick_stand_in: None, receiving: bool
) -> None:
    session, peer = make_session(timeout=PATIENCE)
    received = Background(session.receive) if receiving else None
    big = PreparedMessage(BIG)
    assert all(session._writer.offer(big, 5) for _ in range(3))
    wait_until(lambda: session._attending._thread is not None)
    faults.reset(peer.socket)
    assert session.wait_closed(PATIENCE).code == 1006
    if received is not None:
        assert closed(received).code == 1006


class GivenUp(deque[PreparedMessage]):
    """Another thread gives all messages up just before the first one is taken out."""

    def popleft(self) -> PreparedMessage:
        self.clear()
        return super().popleft()


def test_offers_may_be_given_up_while_they_are_written(make_session: MakeSession) -> None:
    session, peer = make_session(timeout=PATIENCE)
    writer = session._writer
    assert all(session._writer.offer(PreparedMessage(data), 5) for data in (BIG, "given up"))
    with writer.write_lock:
        writer._waiting = GivenUp(writer._waiting)
    sender = Background(session.send, "last")
    assert peer.receive() == BIG
    assert peer.receive() == "last"
    sender.result()


def test_two_first_offers_at_once_wait_in_one_queue(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, peer = make_session(timeout=PATIENCE)
    offers = [PreparedMessage("first")]

    def interrupted() -> deque[PreparedMessage]:
        """A signal handler, or another thread, offers a message just before the queue is made."""
        while offers:
            session._writer.offer(offers.pop(), 5)
        return deque()

    monkeypatch.setattr(output, "deque", interrupted)
    with session._writer.write_lock:
        assert session._writer.offer(PreparedMessage("second"), 5)
    session.send("last")
    assert [peer.receive() for _ in range(3)] == ["first", "second", "last"]


def test_sessions_make_their_queues_when_something_waits(make_session: MakeSession) -> None:
    (one, peer), (other, _) = make_session(), make_session()
    one.send("x")
    peer.send("y")
    assert one.receive(PATIENCE) == "y"
    assert one._writer._waiting is other._writer._waiting
    assert one._reader._queue is other._reader._queue
    with one._writer.write_lock:
        assert one._writer.offer(PreparedMessage("for one only"), 5)
    assert one._writer._waiting is not other._writer._waiting
    assert not other._writer._waiting


def test_a_ping_that_finds_no_room_is_not_sent(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=None, timeout=PATIENCE)
    session._writer.offer(PreparedMessage(BIG), 5)
    assert not session._writer.try_ping(b"no room")
    assert peer.receive() == BIG
    session.flush()
    assert session._writer.try_ping(b"there is")
    assert peer.expect_ping() == b"there is"


def test_an_ended_session_takes_and_forgets(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    session.terminate()
    assert session._writer.offer(PreparedMessage("x"), 1)
    with pytest.raises(syncws.ConnectionClosedError):
        session.send(PreparedMessage("x"))


def test_the_close_comes_behind_the_waiting_messages(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session._writer.offer(PreparedMessage(BIG), 5)
    session._writer.offer(PreparedMessage("last"), 5)
    closing = Background(session.close)
    assert peer.receive() == BIG
    assert peer.receive() == "last"
    assert peer.answer_close() == (1000, "")
    closing.result()
