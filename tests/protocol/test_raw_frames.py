"""Frames without sockets: parsing and refusing them, in both directions."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import Frame, Opcode
from syncws.protocol.events import Fault
from syncws.protocol.raw_frames import FrameInput, FrameOutput, read_close

from ..support import faults
from ..support.pairs import frame

DATA = st.builds(
    Frame,
    st.sampled_from([Opcode.CONTINUATION, Opcode.TEXT, Opcode.BINARY]),
    st.binary(max_size=70_000),
    fin=st.booleans(),
)
CONTROL = st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))
FRAMES = st.lists(DATA | CONTROL, max_size=5)
CUTS = st.lists(st.integers(min_value=0), max_size=8)


def on_the_wire(sent: Frame) -> bytes:
    """The frame as a client masks it."""
    rsv = sent.rsv1 << 2 | sent.rsv2 << 1 | sent.rsv3
    return frame(sent.opcode, sent.payload, fin=sent.fin, rsv=rsv)


def parse(data: bytes, *cuts: int, **options: Any) -> list[Frame | Fault]:
    made = FrameInput(options.pop("max_frame_size", 100_000), **options)
    found = []
    for part in faults.splits(data, *cuts):
        made.receive_data(part)
        while (event := made.next_frame()) is not None:
            found.append(event)
    return found


# Received frames


@given(FRAMES, CUTS)
def test_b2_frames_come_as_they_were_sent_however_they_are_cut(
    sent: list[Frame], cuts: list[int]
) -> None:
    """The frames make no valid messages, which is the handler's concern."""
    assert parse(b"".join(map(on_the_wire, sent)), *cuts) == sent


@given(FRAMES.map(lambda sent: b"".join(map(on_the_wire, sent))[:2000]))
def test_byte_by_byte_and_with_bytes_missing(data: bytes) -> None:
    assert parse(data, *range(len(data))) == parse(data)


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_frames_or_a_fault_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    found = parse(data, *cuts)
    assert found == parse(data)
    assert not any(isinstance(event, Fault) for event in found[:-1])


def test_nothing_comes_after_a_close() -> None:
    close = Frame(Opcode.CLOSE, b"\x03\xe8bye")
    assert parse(on_the_wire(close) + frame(1, b"more") + b"\xff" * 20) == [close]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x81\x00", "unmasked"),
        (frame(3), "opcode"),
        (frame(11), "opcode"),
        (frame(1, rsv=4), "Reserved bit"),
        (frame(2, rsv=1), "Reserved bit"),
        (frame(9, fin=False), "fragment"),
        (frame(9, b"x" * 126), "125"),
        (b"\x82\xfe\x00\x05" + bytes(9), "1 would have sufficed"),
        (b"\x82\xff" + (200).to_bytes(8, "big") + bytes(204), "2 would have sufficed"),
        (b"\x82\xff\x80" + bytes(11), "MSB"),
    ],
)
def test_an_invalid_frame_is_a_fault_behind_the_frames_before(data: bytes, match: str) -> None:
    first, fault, *rest = parse(frame(1, b"first") + data + frame(1, b"more"))
    assert first == Frame(Opcode.TEXT, b"first")
    assert isinstance(fault, Fault)
    assert (fault.code, fault.cause) == (1002, "protocol_error")
    assert match in fault.reason
    assert rest == []


def test_a_frame_too_large_is_a_fault_as_soon_as_its_header_has_come() -> None:
    assert parse(frame(2, b"x" * 100), max_frame_size=100) == [Frame(Opcode.BINARY, b"x" * 100)]
    (fault,) = parse(frame(2, b"x" * 101)[:6], max_frame_size=100)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.cause) == (1009, "too_big")


def test_the_bit_of_an_extension_that_was_agreed_on() -> None:
    compressed = Frame(Opcode.TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv1=True)
    assert parse(on_the_wire(compressed), deflate=True) == [compressed]
    for wrong in (frame(0, rsv=4), frame(9, rsv=4), frame(1, rsv=2)):
        (fault,) = parse(wrong, deflate=True)
        assert isinstance(fault, Fault), wrong


def test_the_bytes_that_a_frame_still_needs_are_known() -> None:
    made = FrameInput(100_000)
    data = frame(2, b"x" * 1000)
    made.receive_data(data[:108])
    assert made.next_frame() is None
    assert made.expected_bytes == 900
    made.receive_data(data[108:])
    assert made.next_frame() == Frame(Opcode.BINARY, b"x" * 1000)
    assert made.expected_bytes == 0


@pytest.mark.parametrize(
    ("payload", "closing"),
    [
        (b"", (1005, "")),
        (b"\x03", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x00\x05\xffx", (5, "�x")),
    ],
)
def test_any_close_can_be_read(payload: bytes, closing: tuple[int, str]) -> None:
    assert read_close(payload) == closing


# Sent frames


@given(st.builds(Frame, st.integers(0, 15), st.binary(max_size=70_000), fin=st.booleans(),
                 rsv1=st.booleans(), rsv2=st.booleans(), rsv3=st.booleans(),
                 unchecked=st.just(True)))  # fmt: skip
def test_an_unchecked_frame_is_sent_as_it_is(sent: Frame) -> None:
    header, payload = FrameOutput().encode(sent)
    assert payload == sent.payload
    masked = on_the_wire(sent)
    assert header[0] == masked[0]
    assert len(header) + len(sent.payload) == len(masked) - 4
    assert header[1:] == bytes((masked[1] & 0x7F,)) + masked[2 : len(header)]


@given(DATA | CONTROL)
def test_c8_masking_is_on_when_it_is_told_so(sent: Frame) -> None:
    made = FrameOutput(masking=True)
    unchecked = dataclasses.replace(sent, unchecked=True)
    assert parse(b"".join(made.encode(unchecked))) == [sent]
    assert made.encode(unchecked)[0] != made.encode(unchecked)[0], "with a key of its own"


def text(payload: bytes, *, fin: bool = True) -> Frame:
    return Frame(Opcode.TEXT, payload, fin=fin)


def more(payload: bytes = b"", *, fin: bool = False, **bits: bool) -> Frame:
    return Frame(Opcode.CONTINUATION, payload, fin=fin, **bits)


CLOSE = Frame(Opcode.CLOSE)
PING = Frame(Opcode.PING, b"ping")


@pytest.mark.parametrize(
    ("before", "wrong", "match"),
    [
        ([], Frame(3), "opcode 0x3 is reserved"),
        ([], Frame(11), "opcode 0xb is reserved"),
        ([], Frame(Opcode.TEXT, rsv1=True), "no extension"),
        ([], Frame(Opcode.TEXT, rsv2=True), "no extension"),
        ([], Frame(Opcode.PING, rsv3=True), "no extension"),
        ([], Frame(Opcode.PING, fin=False), "can not be fragmented"),
        ([], Frame(Opcode.PONG, b"x" * 126), "at most 125 bytes, this one has 126"),
        ([], Frame(Opcode.CLOSE, b"\x03"), "two bytes, or nothing"),
        ([], Frame(Opcode.CLOSE, (1005).to_bytes(2, "big")), "1005 can not be sent"),
        ([], Frame(Opcode.CLOSE, (2999).to_bytes(2, "big")), "2999 can not be sent"),
        ([], Frame(Opcode.CLOSE, b"\x03\xe8\xff"), "utf-8"),
        ([], more(), "no message to continue"),
        ([text(b"all")], more(), "no message to continue"),
        ([text(b"a", fin=False), more(fin=True)], more(), "no message to continue"),
        ([text(b"a", fin=False)], text(b"b"), "a message has begun"),
        ([text(b"a", fin=False), PING], Frame(Opcode.BINARY), "a message has begun"),
        ([CLOSE], text(b"late"), "a Close was sent"),
        ([text(b"a", fin=False), CLOSE], more(), "a Close was sent"),
        ([CLOSE], CLOSE, "a Close was sent"),
        ([], text(b"\xff"), "text message is UTF-8"),
        ([], text(b"\xc3"), "text message is UTF-8"),
        ([text(b"\xc3", fin=False)], more(b"x"), "text message is UTF-8"),
        ([text(b"\xc3", fin=False)], more(fin=True), "text message is UTF-8"),
    ],
)
def test_b2_what_the_protocol_forbids_is_refused_unless_unchecked(
    before: list[Frame], wrong: Frame, match: str
) -> None:
    made = FrameOutput()
    for sent in before:
        made.encode(sent)
    for _ in range(2):
        with pytest.raises(ValueError, match=match):
            made.encode(wrong)
    unchecked = dataclasses.replace(wrong, unchecked=True)
    made.encode(unchecked)


def test_a_refused_or_unchecked_frame_does_not_change_the_check_of_later_ones() -> None:
    made = FrameOutput()
    made.encode(text(b"h\xc3", fin=False))
    for wrong in (more(b"\xff"), text(b"new")):
        with pytest.raises(ValueError, match="unchecked=True sends it"):
            made.encode(wrong)
    made.encode(Frame(Opcode.TEXT, b"\xff", unchecked=True))
    made.encode(PING)
    made.encode(more(b"\xa9", fin=True))
    made.encode(Frame(Opcode.BINARY, b"\xff"))
    made.encode(Frame(Opcode.CLOSE, b"\x00", unchecked=True))
    with pytest.raises(ValueError, match="a Close was sent"):
        made.encode(text(b"late"))
    made.encode(PING)


def test_compressed_messages_are_the_handlers() -> None:
    made = FrameOutput(deflate=True)
    made.encode(Frame(Opcode.TEXT, b"\xff", fin=False, rsv1=True))
    with pytest.raises(ValueError, match="first frame of a message"):
        made.encode(more(b"\xff", rsv1=True))
    with pytest.raises(ValueError, match="first frame of a message"):
        made.encode(Frame(Opcode.PING, rsv1=True))
    made.encode(more(b"\xff", fin=True))
    with pytest.raises(ValueError, match="UTF-8"):
        made.encode(text(b"\xff"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((1, "text"), TypeError), ((1, bytearray(b"x")), TypeError), ((16, b""), ValueError)],
)
def test_arguments_that_make_no_frame(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Frame(*arguments)
