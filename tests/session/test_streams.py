"""Messages as files that are read while they arrive."""

from __future__ import annotations

from typing import Any

import pytest
from wsproto.events import BytesMessage, CloseConnection, Pong

import syncws
from syncws import Session
from syncws.session import read_ahead
from syncws.system.transport import MAX_READ_SIZE

from ..conftest import MakeSession
from ..support.background import Background, closed, wait_until
from ..support.pairs import PATIENCE, Peer, frame

pytestmark = pytest.mark.usefixtures("quick_stand_in")

Both = tuple[Session, Peer]
TEXT, BINARY, CONTINUATION, PING = 1, 2, 0, 9


def test_a_message_is_read_while_it_arrives(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    stream = Background(session.receive_stream, PATIENCE)
    peer.send_bytes(frame(BINARY, b"one", fin=False))
    file = stream.result()
    assert file.read(2) == b"on"
    assert file.read1(10) == b"e"
    peer.send_bytes(frame(PING) + frame(CONTINUATION, b" two", fin=False))
    assert file.read(4) == b" two"
    peer.send_bytes(frame(CONTINUATION, b" three"))
    assert file.read() == b" three"
    assert file.read() == b""
    peer.send("next")
    assert session.receive(PATIENCE) == "next"


def test_one_large_frame_is_read_while_it_arrives(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    payload = bytes(range(256)) * 2000
    sent = frame(BINARY, payload)
    peer.send_bytes(sent[:1000])
    file = session.receive_stream(PATIENCE)
    assert file.read(900) == payload[:900]
    rest = Background(file.read)
    peer.send_bytes(sent[1000:])
    assert rest.result() == payload[900:]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_text_is_a_text_file(session_and_peer: Both, size: int) -> None:
    session, peer = session_and_peer
    text = "zwölf\r\nKäse\n€\n" * 3000
    sent = frame(TEXT, text.encode()[:20], fin=False) + frame(CONTINUATION, text.encode()[20:])

    def send() -> None:
        for at in range(0, len(sent), size):
            peer.send_bytes(sent[at : at + size])

    sender = Background(send)
    file = session.receive_stream(PATIENCE)
    assert file.readline() == "zwölf\r\n"
    assert "".join(file) == text[7:]  # type: ignore[arg-type]  # text, as was just seen
    sender.result()


@pytest.mark.parametrize("message", ["text", b"binary", "", b""])
def test_a_whole_message_is_a_file_too(
    session_and_peer: Both, message: str | bytes, quick_stand_in: None
) -> None:
    session, peer = session_and_peer
    peer.send(message)
    assert session.receive_stream(PATIENCE).read() == message
    peer.send(message)
    peer.ping()
    assert isinstance(peer.next_event(), Pong)  # so it is in the queue
    assert session.receive_stream(PATIENCE).read() == message


def test_what_was_received_before_the_stream_began_is_part_of_it(
    session_and_peer: Both, quick_stand_in: None
) -> None:
    session, peer = session_and_peer
    for opcode, first in ((TEXT, b"h\xc3"), (BINARY, b"h\xc3")):
        peer.send_bytes(frame(opcode, first, fin=False) + frame(PING))
        assert isinstance(peer.next_event(), Pong)
        peer.send_bytes(frame(CONTINUATION, b"\xa9"))
        read: Any = session.receive_stream(PATIENCE).read()
        assert read == ("hé" if opcode == TEXT else b"h\xc3\xa9")
    whole = frame(BINARY, b"x" * 1000)
    peer.send_bytes(whole[:500])
    with pytest.raises(TimeoutError):
        session.receive(0.01)
    peer.send_bytes(whole[500:])
    assert session.receive_stream(PATIENCE).read() == b"x" * 1000


def test_a_timeout_before_the_message_begins_changes_nothing(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    with pytest.raises(TimeoutError):
        session.receive_stream(0.01)
    peer.send_bytes(frame(TEXT, b"in ", fin=False) + frame(CONTINUATION, b"parts"))
    assert session.receive(PATIENCE) == "in parts"


def test_nothing_is_lost_when_more_does_not_come_in_time(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_bytes(frame(BINARY, b"one", fin=False))
    file: Any = session.receive_stream(0.2)
    assert file.read1(10) == b"one"
    with pytest.raises(TimeoutError):
        file.read1(10)
    peer.send_bytes(frame(CONTINUATION, b"two"))
    assert file.read1(10) == b"two"


def test_the_rest_of_a_stream_is_skipped(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_bytes(frame(BINARY, b"x" * 10, fin=False))
    file = session.receive_stream(PATIENCE)
    with pytest.raises(TimeoutError):
        session.receive(0.01)
    peer.send_bytes(frame(CONTINUATION, b"x" * 10) + frame(TEXT, b"next"))
    assert session.receive(PATIENCE) == "next"
    assert file.read(10) == b"x" * 10, "what had been received"
    with pytest.raises(ValueError, match="next message was received"):
        file.read(1)
    peer.send_bytes(frame(TEXT, b"a", fin=False))
    text = session.receive_stream(PATIENCE)
    text.close()
    peer.send_bytes(frame(CONTINUATION, b"b") + frame(TEXT, b"another"))
    assert session.receive_stream(PATIENCE).read() == "another"


def test_a_slow_reader_of_a_stream_holds_the_peer_back(
    session_and_peer: Both, quick_stand_in: None
) -> None:
    """Memory is bounded: bytes that the handler does not read stay with the peer."""
    session, peer = session_and_peer
    peer.send_bytes(frame(BINARY, b"x", fin=False))
    file = session.receive_stream(PATIENCE)
    peer.socket.setblocking(False)
    part = frame(CONTINUATION, b"x" * 60_000, fin=False)
    while not session._reader.reading_stopped:
        try:
            peer.socket.send(part)
        except BlockingIOError:
            continue
    assert session._reader._read_ahead.size < read_ahead.MAX_QUEUED_BYTES + 70_000
    assert file.read(60_000) == b"x" * 60_000


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_large_message_is_not_read_ahead_whole(
    make_session: MakeSession, fragmented: bool
) -> None:
    """The handler is busy at first, and later reads the message as a stream."""
    size = 20 * 1024 * 1024
    session, peer = make_session(max_message_size=2 * size)
    sent = frame(BINARY, bytes(size), fin=not fragmented)
    sent += frame(CONTINUATION, b"end") if fragmented else b""
    sender = Background(peer.send_bytes, sent)
    while not session._reader.reading_stopped:
        assert not session._reader._queue
    file = session.receive_stream(PATIENCE)
    assert len(file.read(1)) == 1
    assert session._transport.received < 2 * MAX_READ_SIZE
    assert len(file.read()) == size - 1 + 3 * fragmented
    sender.result()


def test_after_a_message_that_was_not_read_ahead_somebody_stands_in_again(
    make_session: MakeSession,
) -> None:
    session, peer = make_session(max_message_size=10_000_000, ping_interval=None)
    sender = Background(peer.send_bytes, frame(BINARY, bytes(5_000_000)))
    while not session._reader.reading_stopped:
        assert not session._reader._queue
    # Only this receive() wakes the thread that attends to the session.
    assert len(session.receive(PATIENCE)) == 5_000_000
    sender.result()
    peer.ping(b"are you there?")
    assert peer.expect_pong() == b"are you there?"


def test_a_message_larger_than_the_limit_ends_a_stream(make_session: MakeSession) -> None:
    session, peer = make_session(max_message_size=100)
    peer.send_bytes(frame(BINARY, b"x" * 80, fin=False))
    file = session.receive_stream(PATIENCE)
    assert file.read(80) == b"x" * 80
    peer.send_bytes(frame(CONTINUATION, b"x" * 21))
    with pytest.raises(syncws.ConnectionClosedError) as caught:
        file.read(1)
    assert caught.value.reason.cause == "too_big"


def test_the_end_of_the_session_ends_a_stream(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_bytes(frame(TEXT, b"begun", fin=False))
    file = session.receive_stream(PATIENCE)
    read = Background(file.read)
    peer.send_close(1001)
    assert closed(read).code == 1001
    assert isinstance(peer.next_event(), CloseConnection)


def test_one_reader_at_a_time(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    peer.send_bytes(frame(TEXT, b"begun", fin=False))
    file = session.receive_stream(PATIENCE)
    read = Background(file.read)
    wait_until(lambda: session._reader.receiving.locked())
    for call in (session.receive, session.receive_stream):
        with pytest.raises(syncws.ConcurrencyError):
            call()
    peer.send_bytes(frame(CONTINUATION, b""))
    assert read.result() == "begun"


def test_compressed_streams_both_ways() -> None:
    from wsproto.extensions import PerMessageDeflate
    from wsproto.frame_protocol import FrameProtocol

    from syncws.protocol.deflate import Deflate
    from syncws.protocol.deflate_offers import negotiate_deflate
    from syncws.protocol.events import Part
    from syncws.protocol.messages import Protocol

    agreed = negotiate_deflate(["permessage-deflate"], Deflate(), 1_000_000)
    assert agreed is not None
    ours = Protocol(max_message_size=1_000_000, deflate=agreed[0])
    extension = PerMessageDeflate()
    extension.finalize(agreed[1])
    theirs = FrameProtocol(client=True, extensions=[extension])
    for _ in range(3):
        for number, part in enumerate(("abc" * 100, "", "abc" * 50)):
            theirs.receive_bytes(ours.fragment(part, finished=number == 2))
            assert "".join(str(f.payload) for f in theirs.received_frames()) == part
        theirs.receive_bytes(b"".join(ours.message("whole" * 100)))
        assert [f.payload for f in theirs.received_frames()] == ["whole" * 100]
        ours.streaming = True
        for number in range(3):
            ours.receive_data(bytes(theirs.send_data(b"xyz" * 100, fin=number == 2)))
        parts = []
        while isinstance(part_received := ours.next_event(), Part):
            parts.append(part_received)
        assert b"".join(bytes(part.data) for part in parts) == b"xyz" * 300  # type: ignore[arg-type]  # bytes
        assert [part.finished for part in parts].count(True) == 1
        assert parts[-1].finished


def test_bytes_message_type_is_known_from_the_first_part(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.send([b"", b"x"])
    event = peer.next_event()
    assert isinstance(event, BytesMessage)
