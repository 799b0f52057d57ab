from __future__ import annotations

import sys
import threading
import zlib
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws.protocol.events import Event, Fault, PeerClose, Ping, Pong, State
from syncws.protocol.messages import Protocol
from syncws.protocol.outbound import Data
from syncws.protocol.prepared import PreparedMessage

from ..support.background import Background
from ..support.faults import splits
from ..support.pairs import frame

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def protocol(**limits: Any) -> Protocol:
    return Protocol(**{"max_message_size": 1000, **limits})


def events(protocol: Protocol, data: bytes) -> list[Event]:
    protocol.receive_data(data)
    found = []
    while (event := protocol.next_event()) is not None:
        found.append(event)
    return found


#: A stream with some of everything, and what it says.
STREAM = b"".join(
    [
        frame(TEXT, "héllo".encode()),
        frame(BINARY, bytes(range(200))),
        frame(TEXT, b"frag", fin=False),
        frame(PING, b"in between"),
        frame(CONTINUATION, "mentéd".encode()),
        frame(BINARY, b"", fin=False),
        frame(CONTINUATION, b"x", fin=False),
        frame(CONTINUATION, b""),
        frame(TEXT, b""),
        frame(PONG, b"unasked"),
        frame(CLOSE, b"\x03\xe8bye"),
    ]
)
SAID: list[Event] = [
    "héllo",
    bytes(range(200)),
    Ping(b"in between"),
    "fragmentéd",
    b"x",
    "",
    Pong(b"unasked"),
    PeerClose(1000, "bye"),
]


def test_c14_fragmented_messages_are_put_together() -> None:
    assert events(protocol(), STREAM) == SAID


def test_stream_byte_by_byte() -> None:
    receiver = protocol()
    assert [e for value in STREAM for e in events(receiver, bytes([value]))] == SAID


@given(st.lists(st.integers(0, 10_000), max_size=8))
def test_stream_cut_anywhere(cuts: list[int]) -> None:
    receiver = protocol()
    assert [e for part in splits(STREAM, *cuts) for e in events(receiver, part)] == SAID


def test_bytes_behind_the_close_are_ignored() -> None:
    receiver = protocol()
    assert events(receiver, STREAM + frame(TEXT, b"more") + b"garbage") == SAID
    assert events(receiver, b"still more") == []
    assert receiver.input_over


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(3), 1002),
        (frame(11), 1002),
        (frame(TEXT, b"x", rsv=4), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (b"\x81\x01x", 1002),  # not masked
        (b"\x82\xfe\x00\x05", 1002),  # a longer length than needed
        (b"\x82\xff" + b"\xff" * 8, 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xed"), 1002),  # 1005
        (frame(CLOSE, b"\x00\x00"), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),  # a surrogate
        (frame(TEXT, b"\xc3"), 1007),  # cut off
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\x28"), 1007),
    ],
)
def test_fault_comes_behind_the_messages_before_it(bad: bytes, code: int) -> None:
    receiver = protocol()
    found = events(receiver, frame(TEXT, b"one") + frame(BINARY, b"two") + bad + frame(TEXT, b"x"))
    assert found[:2] == ["one", b"two"]
    (fault,) = found[2:]
    assert isinstance(fault, Fault)
    assert (fault.code, fault.cause) == (code, "protocol_error")
    assert fault.reason
    assert events(receiver, frame(TEXT, b"too late")) == []


def test_invalid_utf8_is_seen_in_the_middle_of_a_frame() -> None:
    whole = frame(TEXT, b"good \xff" + b"x" * 100)
    receiver = protocol()
    (fault,) = events(receiver, whole[:20])
    assert isinstance(fault, Fault)
    assert fault.code == 1007


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("cut", [False, True])
def test_message_size_limit_is_exact(opcode: int, cut: bool) -> None:
    def message(size: int) -> bytes:
        if not cut:
            return frame(opcode, b"x" * size)
        return frame(opcode, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * (size - 600))

    receiver = protocol()
    for _ in range(2):
        (received,) = events(receiver, message(1000))
        assert isinstance(received, (str, bytes))
        assert len(received) == 1000
    assert events(receiver, message(1001)) == [
        Fault(1009, "message larger than 1000 bytes", "too_big")
    ]


def test_text_is_measured_in_bytes() -> None:
    assert events(protocol(), frame(TEXT, ("é" * 500).encode())) == ["é" * 500]
    (fault,) = events(protocol(), frame(TEXT, ("é" * 501).encode()))
    assert isinstance(fault, Fault)


def test_c7_frame_size_limit() -> None:
    receiver = protocol(max_frame_size=10)
    cut = frame(BINARY, b"x" * 10, fin=False) + frame(CONTINUATION, b"y" * 10)
    assert events(receiver, cut + frame(BINARY, b"z" * 10)) == [
        b"x" * 10 + b"y" * 10,
        b"z" * 10,
    ]
    assert events(receiver, frame(BINARY, b"x" * 11)) == [
        Fault(1009, "frame larger than 10 bytes", "too_big")
    ]


def test_too_big_is_known_before_all_of_it_has_come() -> None:
    receiver = protocol()
    huge = b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 2000
    (fault,) = events(receiver, huge)
    assert isinstance(fault, Fault)
    assert fault.code == 1009


def test_a_flood_of_empty_fragments_takes_no_memory() -> None:
    import tracemalloc

    receiver = protocol()
    events(receiver, frame(TEXT, b"", fin=False))
    flood = frame(CONTINUATION, b"", fin=False) * 1000
    events(receiver, flood)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        assert events(receiver, flood) == []
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10_000


def test_state() -> None:
    ours = protocol()
    states = [ours.state]
    ours.close(1000, "")
    states.append(ours.state)
    events(ours, frame(CLOSE))
    states.append(ours.state)
    assert states == [State.OPEN, State.CLOSING, State.CLOSED]

    failing = protocol()
    events(failing, b"\xff\xff\xff")
    assert failing.state is State.CLOSING


def test_close_without_a_code() -> None:
    assert events(protocol(), frame(CLOSE)) == [PeerClose(1005, "")]
    assert protocol().close(1005, "") == b"\x88\x00"


@pytest.mark.parametrize(
    ("data", "head"),
    [
        ("héllo", b"\x81\x06"),
        (b"abc", b"\x82\x03"),
        (bytearray(b"abc"), b"\x82\x03"),
        (memoryview(b"abcdef")[::2], b"\x82\x03"),
        (b"x" * 125, b"\x82\x7d"),
        (b"x" * 126, b"\x82\x7e\x00\x7e"),
        (b"x" * 65535, b"\x82\x7e\xff\xff"),
        (b"x" * 65536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ("", b"\x81\x00"),
    ],
)
def test_message_is_one_unmasked_frame(data: Any, head: bytes) -> None:
    payload = data.encode() if isinstance(data, str) else bytes(data)
    assert b"".join(protocol().message(data)) == head + payload


MESSAGES: list[Data] = [
    "",
    "héllo",
    b"abc",
    bytearray(b"abc"),
    memoryview(b"abcdef")[::2],
    memoryview(array("H", range(200))),
    b"x" * 126,
    b"x" * 70_000,
    "é" * 40_000,
]


@pytest.mark.parametrize("data", MESSAGES)
def test_c8_a_client_masks_and_a_server_does_not(data: Data) -> None:
    client = protocol(client=True, max_message_size=200_000)
    server = protocol(max_message_size=200_000)
    expected = data if isinstance(data, str) else bytes(data)
    for sender, receiver in ((client, server), (server, client)):
        written = b"".join(sender.message(data))
        assert bool(written[1] & 0x80) is (sender is client)
        assert events(receiver, written) == [expected]
        assert events(receiver, b"".join(sender.prepared(PreparedMessage(data)))) == [expected]
        parts = sender.fragment(data, finished=False) + sender.fragment(data, finished=True)
        assert events(receiver, parts) == [expected + expected]  # type: ignore[operator]  # of one kind
        control = sender.ping(b"p") + sender.pong(b"q") + sender.close(1000, "")
        assert events(receiver, control) == [Ping(b"p"), Pong(b"q"), PeerClose(1000, "")]


def test_c8_each_frame_has_a_key_of_its_own() -> None:
    client = protocol(client=True)
    payload = b"the same eight"
    written = [b"".join(client.message(payload)) for _ in range(8)]
    written += [client.ping(payload) for _ in range(8)]
    written += [b"".join(client.prepared(PreparedMessage(payload))) for _ in range(8)]
    assert len({frame[2:6] for frame in written}) == len(written)
    assert len({frame[6:] for frame in written}) == len(written)


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("opcode", [TEXT, PING, CONTINUATION])
def test_c8_what_a_peer_masks_against_the_rule_is_a_fault(client: bool, opcode: int) -> None:
    receiver = protocol(client=client)
    good = frame(TEXT, b"fragment", fin=False, masked=not client)
    assert events(receiver, good if opcode == CONTINUATION else b"") == []
    (fault,) = events(receiver, frame(opcode, b"x", masked=client))
    assert isinstance(fault, Fault)
    assert (fault.code, fault.cause) == (1002, "protocol_error")


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("masking", [None, False, True])
def test_c8_masking_decides_about_what_is_sent_and_nothing_else(
    client: bool, masking: bool | None
) -> None:
    ours = protocol(client=client, masking=masking)
    expected = client if masking is None else masking
    written = [
        b"".join(ours.message("x")),
        b"".join(ours.prepared(PreparedMessage("x"))),
        ours.fragment("x", finished=True),
        ours.ping(b"x"),
        ours.pong(b"x"),
        ours.close(1000, ""),
    ]
    assert [bool(frame[1] & 0x80) for frame in written] == [expected] * len(written)
    assert events(ours, frame(TEXT, b"x", masked=not client)) == ["x"]
    assert isinstance(events(ours, frame(TEXT, b"x", masked=client))[0], Fault)


def test_control_frames() -> None:
    assert protocol().ping(b"p") == b"\x89\x01p"
    assert protocol().pong(b"") == b"\x8a\x00"
    assert protocol().close(1000, "bye") == b"\x88\x05\x03\xe8bye"


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_raises_nothing(garbage: bytes, cuts: list[int]) -> None:
    receiver = protocol()
    for part in splits(garbage, *cuts):
        events(receiver, part)


def test_compressed_frame_is_a_fault_when_nothing_was_negotiated() -> None:
    (fault,) = events(protocol(), frame(TEXT, zlib.compress(b"x"), rsv=4))
    assert isinstance(fault, Fault)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("plain", [True, False])
def test_any_thread_may_ask_how_much_is_kept(opcode: int, plain: bool) -> None:
    """The reader replaces the buffer while another thread looks at it."""
    interval = sys.getswitchinterval()
    receiver = protocol()
    whole = frame(opcode, b"x" * 20)
    if not plain:
        whole = frame(opcode, b"x" * 10, fin=False) + frame(0, b"x" * 10)
    over = threading.Event()
    sizes: set[int] = set()

    def look() -> None:
        while not over.is_set():
            sizes.add(receiver.kept_size)

    looking = Background(look)
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(3000):
            assert events(receiver, whole[:-5]) == []
            assert len(events(receiver, whole[-5:])) == 1
    finally:
        sys.setswitchinterval(interval)
        over.set()
    looking.result()
    assert sizes <= set(range(21))
