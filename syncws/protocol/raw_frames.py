"""Frames as they are on the wire, for raw sessions (RFC 6455 section 5).

Pure: no I/O, no threads, no clock. wsproto parses received bytes and refuses invalid frames. This
file puts the parts of a *frame* together; the handler puts messages together. Each frame that is
sent is checked against the rules, unless it is marked ``unchecked``.

``FrameInput`` and ``FrameOutput`` share no state, so one thread may read while another one writes.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits

from ..close import CloseCode, check_sendable
from .events import Fault
from .frames import data_header
from .masking import mask

__all__ = ["Frame", "FrameInput", "FrameOutput", "read_close"]

_OPCODES = frozenset(Opcode)

#: The largest payload of a control frame, in bytes (RFC 6455 section 5.5).
_MAX_CONTROL = 125


@dataclass(frozen=True)
class Frame:
    """One frame, as a :class:`RawSession` receives and sends it.

    The payload has the bytes on the wire, without the mask: UTF-8 in a text message, a code of two
    bytes and a reason in a Close, compressed bytes in a message whose first frame has ``rsv1``
    set.

    Raises ``TypeError`` for a payload that is not ``bytes``, and ``ValueError`` for an opcode that
    is not from 0 to 15.
    """

    #: One of :class:`Opcode`; a reserved opcode can be sent ``unchecked``.
    opcode: int
    payload: bytes = b""
    #: Whether this is the last frame of its message.
    fin: bool = True
    #: The reserved bits. With permessage-deflate, ``rsv1`` marks the first
    #: frame of a compressed message (RFC 7692 section 6).
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False
    #: Whether the frame is sent even if the protocol forbids it, to test how a peer reacts. The
    #: frames after it are checked as if this one had not been sent, unless it is a Close.
    unchecked: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.payload, bytes):
            raise TypeError(f"payload is bytes, not {type(self.payload).__name__}: encode text")
        if not 0 <= self.opcode <= 15:
            raise ValueError(f"an opcode is from 0 to 15, not {self.opcode!r}")

    @property
    def is_control(self) -> bool:
        """Whether the opcode is that of a control frame: Close, ping, pong, or a reserved one."""
        return self.opcode >= Opcode.CLOSE


class _LeftCompressed(Extension):
    """Lets compressed frames pass as they are: the handler inflates them."""

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        return RsvBits(opcode in (Opcode.TEXT, Opcode.BINARY), False, False)


class FrameInput:
    """Makes frames of the bytes that a client sends."""

    def __init__(self, max_frame_size: int, *, deflate: bool = False) -> None:
        self._max_frame_size = max_frame_size
        self._decoder = FrameDecoder(
            client=False, extensions=[_LeftCompressed()] if deflate else []
        )
        self._payload = bytearray()
        #: The number of whole messages received.
        self.messages = 0
        self.close_received = False
        self._failed = False

    @property
    def over(self) -> bool:
        """Whether bytes that still arrive are ignored: after a Close, or a fault."""
        return self.close_received or self._failed

    @property
    def expected_bytes(self) -> int:
        """Bytes that the frame being received still needs; 0 if that is not known."""
        header = self._decoder.header
        return 0 if header is None else header.payload_len - len(self._payload)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; after its Close, or a fault, they are ignored."""
        if not self.over:
            self._decoder.receive_bytes(data)

    def next_frame(self) -> Frame | Fault | None:
        """The next whole frame; None when it needs more bytes.

        Invalid bytes give a fault, and nothing comes after it.
        """
        if self.over:
            return None
        try:
            return self._next_frame()
        except ParseFailed as exc:
            self._failed = True
            return Fault(int(exc.code), str(exc), "protocol_error")

    def _next_frame(self) -> Frame | Fault | None:
        if self._decoder.header is None and not self._decoder.parse_header():
            return None
        header = self._decoder.header
        assert header is not None
        # Checked before the payload arrives and takes memory.
        if header.payload_len > self._max_frame_size:
            self._failed = True
            reason = f"frame larger than {self._max_frame_size} bytes"
            return Fault(CloseCode.MESSAGE_TOO_BIG, reason, "too_big")
        part = self._decoder.process_buffer()
        if part is None:
            return None
        assert isinstance(part.payload, bytes)
        self._payload += part.payload
        if not part.frame_finished:
            return None  # the rest has not arrived
        frame = Frame(header.opcode, bytes(self._payload), header.fin, *header.rsv)
        self._payload.clear()
        self.messages += frame.fin and not frame.is_control
        self.close_received = header.opcode is Opcode.CLOSE
        return frame


class FrameOutput:
    """Makes bytes of frames, and refuses frames that the protocol forbids.

    ``masking`` says whether the frames are masked, as those of a client must be.
    """

    def __init__(self, *, deflate: bool = False, masking: bool = False) -> None:
        self._masking = masking
        self._deflate = deflate
        # The state of the message whose end has not been sent.
        self._message_open = False
        self._decoder: codecs.IncrementalDecoder | None = None
        #: The number of whole messages sent.
        self.messages = 0
        self.close_sent = False

    def encode(self, frame: Frame) -> tuple[bytes, bytes]:
        """The header and the payload of the next frame; the caller sends both.

        Raises ``ValueError`` if the protocol forbids the frame, unless it is ``unchecked``.
        """
        if not frame.unchecked:
            wrong = self._wrong_by_itself(frame) or self._wrong_here(frame)
            if wrong:
                raise ValueError(f"{wrong}; unchecked=True sends it all the same")
            if not frame.is_control:
                self._message_open = not frame.fin
        self.messages += frame.fin and not frame.is_control
        if frame.opcode == Opcode.CLOSE:
            self.close_sent = True
        first = frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4 | frame.opcode
        payload, key = frame.payload, b""
        if self._masking:
            # A fresh and unpredictable key for each frame (RFC 6455 section 5.3).
            key = os.urandom(4)
            payload = mask(payload, key)
        # Behind the first byte, the header is that of any data frame.
        return bytes((first,)) + data_header(len(payload), text=False, key=key)[1:], payload

    def _wrong_by_itself(self, frame: Frame) -> str | None:
        if frame.opcode not in _OPCODES:
            return f"opcode {frame.opcode:#x} is reserved (RFC 6455 section 5.2)"
        if frame.rsv2 or frame.rsv3 or (frame.rsv1 and not self._deflate):
            return (
                "a reserved bit is set, and no extension that uses it was agreed on "
                "(RFC 6455 section 5.2)"
            )
        if frame.rsv1 and frame.opcode not in (Opcode.TEXT, Opcode.BINARY):
            return "rsv1 is for the first frame of a message (RFC 7692 section 6)"
        if not frame.is_control:
            return None
        if not frame.fin:
            return "a control frame can not be fragmented (RFC 6455 section 5.5)"
        if len(frame.payload) > _MAX_CONTROL:
            return (
                f"a control frame has at most {_MAX_CONTROL} bytes, this one has "
                f"{len(frame.payload)} (RFC 6455 section 5.5)"
            )
        return _wrong_in_close(frame.payload) if frame.opcode == Opcode.CLOSE else None

    def _wrong_here(self, frame: Frame) -> str | None:
        if self.close_sent and (frame.opcode == Opcode.CLOSE or not frame.is_control):
            return (
                "a Close was sent: neither data nor another Close can follow "
                "(RFC 6455 section 5.5.1)"
            )
        if frame.is_control:
            return None
        if frame.opcode == Opcode.CONTINUATION:
            if not self._message_open:
                return "there is no message to continue (RFC 6455 section 5.4)"
        elif self._message_open:
            return (
                "a message has begun: its other frames are continuations, the last one "
                "with fin (RFC 6455 section 5.4)"
            )
        return self._wrong_text(frame)

    def _wrong_text(self, frame: Frame) -> str | None:
        """Check that a text message is UTF-8 as a whole; a compressed one is not checked."""
        decoder = self._decoder
        if frame.opcode != Opcode.CONTINUATION:
            decoder = None
            if frame.opcode == Opcode.TEXT and not frame.rsv1:
                decoder = codecs.getincrementaldecoder("utf-8")()
        if decoder is not None:
            try:
                decoder.decode(frame.payload, frame.fin)
            except UnicodeDecodeError as exc:  # the decoder is unchanged
                return f"a text message is UTF-8, and this one is not: {exc}"
        self._decoder = decoder
        return None


def read_close(payload: bytes) -> tuple[int, str]:
    """The code and the reason in a Close; 1005 if it has none (RFC 6455 section 7.1.5)."""
    if len(payload) < 2:
        return CloseCode.NO_STATUS_RECEIVED, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")


def _wrong_in_close(payload: bytes) -> str | None:
    if not payload:
        return None
    if len(payload) == 1:
        return "a Close has a code of two bytes, or nothing (RFC 6455 section 5.5.1)"
    try:
        check_sendable(int.from_bytes(payload[:2], "big"), payload[2:].decode())
    except ValueError as exc:
        return str(exc)
    return None
