"""Messages from files and iterables, which are sent while they are produced."""

from __future__ import annotations

import io
import mmap
import os
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wsproto.events import BytesMessage, Pong, TextMessage

import syncws
from syncws import CloseReason, Session
from syncws.session import streams

from ..conftest import MakeSession
from ..support.background import Background, closed
from ..support.pairs import PATIENCE, Peer

pytestmark = pytest.mark.usefixtures("quick_stand_in")

Both = tuple[Session, Peer]


def test_c6_an_iterable_is_sent_as_one_fragmented_message(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.send(word for word in ("one ", "", "two ", "thrée"))
    parts = [peer.next_event() for _ in range(5)]
    assert [part.data for part in parts if isinstance(part, TextMessage)] == [
        "one ",
        "",
        "two ",
        "thrée",
        "",
    ]
    assert [part.message_finished for part in parts if isinstance(part, TextMessage)] == [
        False,
        False,
        False,
        False,
        True,
    ]
    session.send([b"\x00", bytearray(b"\x01"), memoryview(b"\x02")])
    assert peer.receive() == b"\x00\x01\x02"
    session.send("whole")
    assert peer.receive() == "whole"


@pytest.mark.parametrize("size", [0, 1, streams.CHUNK, 5 * streams.CHUNK + 1])
def test_d4_a_file_is_sent_as_one_message(
    session_and_peer: Both, tmp_path: Path, size: int
) -> None:
    session, peer = session_and_peer
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    for mode, expected in (("r", "x" * size), ("rb", b"x" * size)):
        with path.open(mode) as file:
            sender = Background(session.send, file)
            assert peer.receive() == expected
            sender.result()


def test_a_part_goes_out_as_soon_as_there_is_one(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    go_on = threading.Event()

    def parts() -> Iterator[str]:
        yield "first"
        assert go_on.wait(PATIENCE)
        yield "last"

    sender = Background(session.send, parts())
    event = peer.next_event()
    assert isinstance(event, TextMessage)
    assert event.data == "first"
    # Meanwhile others are answered, and have to wait.
    received = Background(session.receive)
    peer.ping(b"in between")
    assert isinstance(peer.next_event(), Pong)
    other = Background(session.send, "other")
    others_parts = Background(session.send, ["more", "parts"])
    go_on.set()
    assert peer.receive() == "last"
    assert {peer.receive(), peer.receive()} == {"other", "moreparts"}
    for call in (sender, other, others_parts):
        call.result()
    peer.send_close()
    assert closed(received).code == 1000


@pytest.mark.parametrize("mode", ["rb", "raw"])
def test_what_is_in_a_pipe_goes_out_at_once(session_and_peer: Both, mode: str) -> None:
    session, peer = session_and_peer
    theirs, ours = os.pipe()
    with open(theirs, "rb", buffering=0 if mode == "raw" else -1) as file:
        sender = Background(session.send, file)
        for data in (b"first", b"second"):
            os.write(ours, data)
            event = peer.next_event()
            assert isinstance(event, BytesMessage)
            assert event.data == data
        os.close(ours)
        sender.result()
    assert peer.receive() == b""


class OnlyRead(io.BufferedIOBase):
    def __init__(self) -> None:
        self._left = [b"", b"last", b"first"]

    def read(self, size: int | None = -1) -> bytes:
        return self._left.pop()


def test_views_of_other_shapes_are_their_bytes(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    data = bytes(range(48))
    for view in (
        memoryview(data).cast("B", (6, 8)),
        memoryview(data).cast("H"),
        memoryview(data).cast("b", (2, 3, 8)),
        memoryview(data)[::3],
    ):
        session.send(view)
        assert peer.receive() == view.tobytes()
    session.send(memoryview(b"x" * 100_000).cast("B", (10, 10_000)))
    assert peer.receive() == b"x" * 100_000


def test_a_file_that_can_only_be_read(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    session.send(OnlyRead())
    assert peer.receive() == b"firstlast"


def test_other_bytes_like_objects_are_one_frame(session_and_peer: Both, tmp_path: Path) -> None:
    session, peer = session_and_peer
    numbers: Any = array("H", [1, 2])
    session.send(numbers)
    assert peer.receive() == numbers.tobytes()
    (tmp_path / "file").write_bytes(b"mapped")
    with (
        open(tmp_path / "file", "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        mapped.seek(2)
        mapped_file: Any = mapped
        session.send(mapped_file)
        assert peer.receive() == b"pped"


@pytest.mark.parametrize(
    "call",
    [
        lambda session: session.send("x"),
        lambda session: session.send(syncws.PreparedMessage("x")),
        lambda session: session.send(["x"]),
        lambda session: session.flush(),
    ],
)
def test_what_makes_a_message_can_not_send_another(session_and_peer: Both, call: Any) -> None:
    session, peer = session_and_peer

    def parts() -> Iterator[str]:
        yield "first"
        with pytest.raises(RuntimeError, match="would wait for itself"):
            call(session)
        yield "last"

    session.send(parts())
    assert peer.receive() == "firstlast"
    call(session)


def test_who_waits_for_the_end_of_a_message_waits_no_longer_than_it_wants(
    session_and_peer: Both,
) -> None:
    session, peer = session_and_peer
    begun, go_on = threading.Event(), threading.Event()

    def parts() -> Iterator[str]:
        yield "first"
        begun.set()
        assert go_on.wait(PATIENCE)

    sender = Background(session.send, parts())
    assert begun.wait(PATIENCE)
    for data in ("whole", ["in parts"]):
        with pytest.raises(TimeoutError, match="nothing was sent"):
            session.send(data, timeout=0.01)
    with pytest.raises(TimeoutError):
        session.flush(timeout=0.01)
    go_on.set()
    sender.result()
    assert peer.receive() == "first"
    session.send("fine")
    assert peer.receive() == "fine"


def failing() -> Iterator[str]:
    yield "first"
    raise LookupError("as it was told")


@pytest.mark.parametrize(
    ("data", "error"),
    [(failing(), LookupError), (["first", b"second"], TypeError), (["first", 2], TypeError)],
)
def test_a_message_that_can_not_be_completed_ends_the_session(
    session_and_peer: Both, data: Any, error: type[Exception]
) -> None:
    session, peer = session_and_peer
    with pytest.raises(error):
        session.send(data)
    event = peer.next_event()
    assert isinstance(event, TextMessage)
    assert not event.message_finished
    assert peer.answer_close() == (1011, "a message was broken off")
    with pytest.raises(syncws.ConnectionClosedError):
        session.send("more")
    assert session.wait_closed(PATIENCE) == CloseReason(1011, "a message was broken off", "error")


@pytest.mark.parametrize(
    ("data", "error"),
    [([], ValueError), ([1], TypeError), (iter([{}]), TypeError), (io.TextIOBase(), OSError)],
)
def test_where_nothing_was_sent_the_session_goes_on(
    session_and_peer: Both, data: Any, error: type[Exception]
) -> None:
    session, peer = session_and_peer
    with pytest.raises(error):
        session.send(data)
    session.send("fine")
    assert peer.receive() == "fine"


def test_a_peer_that_stops_reading_ends_a_stream(make_session: MakeSession) -> None:
    session, _ = make_session(timeout=0.1)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    with pytest.raises(syncws.SendTimeoutError):
        session.send(endless())


def test_a9_a_close_reason_that_is_sent_closes(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    sender = Background(session.send, CloseReason(4000, "enough"))
    assert peer.answer_close() == (4000, "enough")
    sender.result()
    assert session.close_reason.result(PATIENCE) == CloseReason(4000, "enough", "local")


def test_d8_try_send_says_whether_it_was_sent(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    assert session.try_send("text") is True
    assert session.try_send(b"binary") is True
    assert (peer.receive(), peer.receive()) == ("text", b"binary")
    session.terminate()
    assert session.try_send("text") is False
    assert session.try_send(["parts"]) is False
