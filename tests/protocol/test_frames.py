"""The fast path, compared with wsproto alone."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from syncws.close import CloseCode
from syncws.protocol.events import Event, Fault, Part, PeerClose, Ping, Pong
from syncws.protocol.frames import (
    PlainFrame,
    data_header,
    plain_frame_at,
    plain_ping_or_pong_at,
)
from syncws.protocol.messages import Protocol

from ..support.faults import splits
from ..support.pairs import frame

LIMIT = 100_000

opcodes = st.sampled_from([1, 2, 1, 2, 0, 8, 9, 10, 3, 15])
payloads = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=200).map(str.encode),
    st.integers(0, 70_000).map(lambda size: b"\xc3\xa9" * (size // 2)),
    st.just(b"\x03\xe8bye"),
)
#: Of a Close.
reasons = st.binary(max_size=5) | st.text(max_size=130).map(str.encode)
closes = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    st.sampled_from([1000, 1000, 1001, 1002, 1005, 999, 3000]),
    reasons,
)


def frames(masked: bool) -> st.SearchStrategy[bytes]:
    return st.builds(
        frame,
        opcodes,
        payloads,
        fin=st.booleans() | st.just(True),
        rsv=st.sampled_from([0, 0, 0, 0, 4, 1]),
        masked=st.sampled_from([masked] * 9 + [not masked]),
    )


def streams(masked: bool) -> st.SearchStrategy[bytes]:
    """Mostly valid frames, with faulty frames and garbage among them; or only plain frames."""
    plain = st.builds(frame, st.sampled_from([1, 2]), payloads, masked=st.just(masked))
    anything = st.lists(frames(masked) | st.binary(max_size=10), max_size=8)
    end = st.builds(frame, st.just(8), closes, masked=st.sampled_from([masked] * 9 + [not masked]))
    closing = st.tuples(st.lists(plain, max_size=2), end, st.binary(max_size=3)).map(
        lambda stream: [*stream[0], *stream[1:]]
    )
    return (anything | st.lists(plain, min_size=1, max_size=8) | closing).map(b"".join)


#: Whether it is a client that receives, and what it receives.
received = st.booleans().flatmap(
    lambda client: st.tuples(st.just(client), streams(masked=not client))
)


def said(parts: list[bytes], *, client: bool, fast: bool) -> list[Event | tuple[int, str]]:
    """All events. A fault is reduced to what the peer sees, because our words for it differ."""
    protocol = Protocol(client=client, max_message_size=LIMIT, fast=fast)
    events: list[Event | tuple[int, str]] = []
    for part in parts:
        protocol.receive_data(part)
        while (event := protocol.next_event()) is not None:
            events.append((event.code, event.cause) if isinstance(event, Fault) else event)
    return events


@settings(max_examples=400, deadline=None)
@given(received, st.lists(st.integers(0, 1_000_000), max_size=6))
def test_same_events_in_the_same_order(received: tuple[bool, bytes], cuts: list[int]) -> None:
    client, stream = received
    parts = list(splits(stream, *cuts))
    assert said(parts, client=client, fast=True) == said(parts, client=client, fast=False)


def said_in_parts(parts: list[bytes], after: int, *, client: bool) -> list[Event | tuple[int, str]]:
    """As ``said()``, with every message in parts from the ``after``-th piece of input on."""
    protocol = Protocol(client=client, max_message_size=LIMIT)
    events: list[Event | tuple[int, str]] = []
    message: list[str] | list[bytes] = []
    for number, received in enumerate(parts):
        protocol.receive_data(received)
        while True:
            if number >= after:
                protocol.streaming = True
            event = protocol.next_event()
            if event is None:
                break
            if isinstance(event, Part):
                message.append(event.data)  # type: ignore[arg-type]  # of one kind in a message
                if event.finished:
                    events.append(type(event.data)().join(message))  # type: ignore[arg-type]  # as above
                    message = []
            else:
                events.append((event.code, event.cause) if isinstance(event, Fault) else event)
    return events


@settings(max_examples=400, deadline=None)
@given(received, st.lists(st.integers(0, 1_000_000), max_size=6), st.integers(0, 4))
def test_same_messages_in_parts(received: tuple[bool, bytes], cuts: list[int], after: int) -> None:
    client, stream = received
    parts = list(splits(stream, *cuts))
    assert said_in_parts(parts, after, client=client) == said(parts, client=client, fast=True)


@settings(max_examples=50, deadline=None)
@given(received)
def test_same_events_byte_by_byte(received: tuple[bool, bytes]) -> None:
    """Both give each event with the same byte of input."""
    client, stream = received
    fast = Protocol(client=client, max_message_size=LIMIT)
    slow = Protocol(client=client, max_message_size=LIMIT, fast=False)
    for value in stream[:500]:
        events = []
        for protocol in (fast, slow):
            protocol.receive_data(bytes([value]))
            event = protocol.next_event()
            events.append((event.code, event.cause) if isinstance(event, Fault) else event)
        assert events[0] == events[1]


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("code", [1000, 1001])
def test_a_close_of_a_normal_end_is_left_to_nobody(
    client: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrameProtocol, "receive_bytes", pytest.fail)
    protocol = Protocol(client=client, max_message_size=LIMIT)
    payload = code.to_bytes(2, "big") + "bye ä".encode()
    protocol.receive_data(
        frame(1, b"last", masked=not client) + frame(8, payload, masked=not client)
    )
    assert [protocol.next_event(), protocol.next_event()] == ["last", PeerClose(code, "bye ä")]
    assert protocol.next_event() is None
    assert not protocol.has_unparsed


@given(st.sampled_from([*CloseCode]) | st.integers(1000, 4999), st.text(max_size=130))
def test_same_close_is_written(code: int, reason: str) -> None:
    written = [
        Protocol(max_message_size=LIMIT, fast=fast).close(code, reason) for fast in (True, False)
    ]
    assert written[0] == written[1]


@given(st.binary(max_size=125))
def test_same_pings_and_pongs_are_written(payload: bytes) -> None:
    fast, slow = (Protocol(max_message_size=LIMIT, fast=fast) for fast in (True, False))
    assert fast.ping(payload) == slow.ping(payload)
    assert fast.pong(payload) == slow.pong(payload)


def test_plain_frames_need_nothing_of_wsproto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrameProtocol, "__init__", pytest.fail)
    protocol = Protocol(max_message_size=LIMIT)
    protocol.receive_data(frame(1, b"text") + frame(8, b"\x03\xe8"))
    assert [protocol.next_event(), protocol.next_event()] == ["text", PeerClose(1000, "")]
    assert protocol.ping(b"p") + protocol.pong(b"q") + protocol.close(1000, "")


@given(st.integers(0, 1 << 62), st.booleans(), st.booleans())
def test_header_is_read_as_it_is_written(size: int, text: bool, masked: bool) -> None:
    header = data_header(size, text=text, key=b"key!" if masked else b"")
    assert plain_frame_at(b"skip" + header, 4, masked=masked) == (4 + len(header), size)
    assert plain_frame_at(header, 0, masked=not masked) is None
    for end in range(1, len(header)):
        found = plain_frame_at(header[:end], 0, masked=masked)
        assert found is not None
        assert found[0] > end, "more has to come"


@pytest.mark.parametrize(
    "head",
    [
        b"\x01\x85",  # a fragment
        b"\x80\x85",
        b"\x88\x80",
        b"\x89\x80",
        b"\xc1\x85",  # compressed
        b"\x81\x05",  # not masked
        b"\x81\x7e\x01\x00",
        b"\x82\xfe\x00\x7d" + b"key!",  # the size has a shorter form
        b"\x82\xfe\x00\x7d",  # the size tells before the key arrives
        b"\x82\xff" + (65535).to_bytes(8, "big") + b"key!",
        b"\x82\xff" + (1 << 63).to_bytes(8, "big") + b"key!",
    ],
)
def test_everything_else_is_no_plain_frame(head: bytes) -> None:
    assert plain_frame_at(head, 0) is None


@given(st.text(max_size=300), st.lists(st.integers(0, 1000), max_size=5))
def test_plain_frame_in_parts(text: str, cuts: list[int]) -> None:
    whole = frame(1, text.encode())
    found = plain_frame_at(whole, 0)
    assert found is not None
    start, size = found
    receiving = PlainFrame(text=True, size=size, key=whole[start - 4 : start])
    *parts, last = splits(whole[start:], *cuts)
    early = [message for part in parts if (message := receiving.take(part)) is not None]
    message = receiving.take(last) if receiving.expected_bytes or not early else early[0]
    assert message == text
    assert receiving.expected_bytes == 0


def test_declared_size_is_refused_before_the_payload_comes() -> None:
    protocol = Protocol(max_message_size=LIMIT)
    protocol.receive_data(frame(2, b"x" * (LIMIT + 1))[:14])
    event = protocol.next_event()
    assert isinstance(event, Fault)
    assert (event.code, event.cause) == (1009, "too_big")


def test_missing_bytes_are_known() -> None:
    protocol = Protocol(max_message_size=LIMIT)
    whole = frame(2, b"x" * 50_000)
    protocol.receive_data(whole[:20_000])
    assert protocol.next_event() is None
    assert protocol.expected_bytes == len(whole) - 20_000
    protocol.receive_data(whole[20_000:])
    assert protocol.next_event() == b"x" * 50_000
    assert protocol.expected_bytes == 0


@pytest.mark.parametrize("opcode", [1, 2])
def test_a_message_that_comes_byte_by_byte_takes_no_more_memory(opcode: int) -> None:
    protocol = Protocol(max_message_size=LIMIT)
    whole = frame(opcode, b"x" * 50_000)
    tracemalloc.start()
    for value in whole[:-1]:
        protocol.receive_data(bytes([value]))
        assert protocol.next_event() is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    protocol.receive_data(whole[-1:])
    message = protocol.next_event()
    assert isinstance(message, (str, bytes))
    assert len(message) == 50_000
    assert peak < 6 * 50_000


@pytest.mark.parametrize("client", [False, True])
def test_whole_pings_and_pongs_are_not_left_to_wsproto(
    monkeypatch: pytest.MonkeyPatch, client: bool
) -> None:
    monkeypatch.setattr(FrameProtocol, "receive_bytes", pytest.fail)
    protocol = Protocol(client=client, max_message_size=1)
    parts = [(9, b""), (10, b"x" * 125), (2, b"m"), (10, b"8 bytes.")]
    protocol.receive_data(b"".join(frame(code, text, masked=not client) for code, text in parts))
    events = [protocol.next_event() for _ in parts]
    assert events == [Ping(b""), Pong(b"x" * 125), b"m", Pong(b"8 bytes.")]
    assert protocol.next_event() is None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("code", [9, 10])
def test_every_other_ping_or_pong_is_wsprotos(masked: bool, code: int) -> None:
    whole = frame(code, b"12345", masked=masked)
    assert plain_ping_or_pong_at(whole, 0, masked=masked) == (code == 9, b"12345", len(whole))
    others = [whole[:size] for size in range(1, len(whole))]
    others.append(frame(code, b"x" * 126, masked=masked))
    others.append(frame(code, b"12345", masked=not masked) + bytes(10))
    others.append(frame(code, b"12345", fin=False, masked=masked))
    others.append(frame(code, b"12345", rsv=4, masked=masked))
    others.append(frame(2, b"12345", masked=masked))
    for other in others:
        assert plain_ping_or_pong_at(other, 0, masked=masked) is None
