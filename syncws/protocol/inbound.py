"""The inbound half of the protocol: received bytes to events.

Pure: no I/O, no threads, no clock. The caller holds the reader's lock, except for the properties
that say that any thread may read them. ``frames.py`` parses plain frames and wsproto all others;
this file puts messages together and enforces the limits.

Events come one at a time, and each is parsed when it is asked for: a fault behind a message does
not overtake the message.
"""

from __future__ import annotations

import io

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameProtocol, Opcode, ParseFailed

from ..close import Cause, CloseCode
from .deflate import DeflateExtension
from .events import Event, Fault, Part, PeerClose, Ping, Pong
from .frames import (
    FIN_BINARY,
    FIN_TEXT,
    RSV1,
    SHORT,
    FrameBounds,
    PlainFrame,
    plain_close_at,
    plain_frame_at,
    plain_ping_or_pong_at,
)
from .masking import mask

__all__ = ["Inbound"]


class Inbound:
    """Parses what one side receives; ``client`` says whether that side is the client."""

    __slots__ = (
        "_between",
        "_binary",
        "_bounds",
        "_decoder",
        "_deflate",
        "_fast",
        "_frame_size",
        "_mask_bit",
        "_masked",
        "_max_frame_size",
        "_max_message_size",
        "_max_short",
        "_message_size",
        "_parsed",
        "_plain",
        "_received",
        "_short_header",
        "_text",
        "close_received",
        "exhausted",
        "expected_bytes",
        "failed",
        "streaming",
    )

    def __init__(
        self,
        *,
        client: bool,
        max_message_size: int,
        max_frame_size: int,
        deflate: DeflateExtension | None,
        fast: bool,
    ) -> None:
        # wsproto's, made for the first frame that it parses. It has a cycle of references, which
        # the garbage collector would have to find after each session.
        self._decoder: FrameProtocol | None = None
        self._deflate = deflate
        self._masked = not client
        self._max_message_size = max_message_size
        self._max_frame_size = max_frame_size
        self._fast = fast
        # Of a short frame: the size of its header, the mask bit, and the largest size accepted.
        self._short_header = 6 if self._masked else 2
        self._mask_bit = 0x80 if self._masked else 0
        self._max_short = min(SHORT, max_message_size, max_frame_size)
        # Whether the next byte begins a frame, and no message is open: the frame may be plain.
        self._between = fast
        # Received and not parsed yet: _received[_parsed:].
        self._received = b""
        self._parsed = 0
        #: Whether next_event() needs more bytes for the next event.
        self.exhausted = True
        # A plain frame whose payload is still arriving.
        self._plain: PlainFrame | None = None
        # Finds the ends of the frames that wsproto parses.
        self._bounds = FrameBounds()
        # Bytes so far of the data frame and of the message that are being received.
        self._frame_size = 0
        self._message_size = 0
        # The fragments so far. These are accumulators and not lists: a message of a million
        # fragments of one byte takes no more memory than a message of a million bytes.
        self._text: io.StringIO | None = None
        self._binary: bytearray | None = None
        #: Bytes that the message being received still needs; 0 if that is not known.
        self.expected_bytes = 0
        #: Whether the message being received, or else the next one, comes in parts as they
        #: arrive. The last part resets it.
        self.streaming = False
        self.close_received = False
        #: Whether a fault was found.
        self.failed = False

    def _new_wsproto(self, *, client: bool) -> FrameProtocol:
        extensions: list[Extension] = [self._deflate] if self._deflate else []
        return FrameProtocol(client=client, extensions=extensions)

    @property
    def input_over(self) -> bool:
        """Whether bytes that still arrive are ignored: after a Close, or a fault."""
        return self.close_received or self.failed

    @property
    def has_unparsed(self) -> bool:
        """Whether ``next_event()`` may find another event in the bytes received so far.

        Any thread may read this.
        """
        return not self.exhausted and self._parsed < len(self._received)

    @property
    def kept_size(self) -> int:
        """Bytes, or characters, kept here of a message that has not arrived whole.

        Any thread may read this: each attribute is read once, since the reader may replace it
        at the same time.
        """
        plain, text, binary = self._plain, self._text, self._binary
        if plain is not None:
            return plain.kept_size
        if text is not None:
            return text.tell()
        return len(binary or b"")

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; after its Close, or a fault, they are ignored."""
        if self.close_received or self.failed:
            return
        if self._parsed < len(self._received):
            self._received = self._received[self._parsed :] + data
        else:
            self._received = data
        self._parsed = 0
        self.exhausted = False

    def next_event(self) -> Event | None:
        """The next event in the bytes received so far; None when it needs more bytes."""
        if self._between and not self.streaming:
            # A short message in one plain frame is taken right here: most messages are such.
            received, start = self._received, self._parsed
            payload = start + self._short_header
            if payload <= len(received):
                first = received[start]
                size = received[start + 1] ^ self._mask_bit
                end = payload + size
                if (
                    size <= self._max_short
                    and first in (FIN_TEXT, FIN_BINARY)
                    and end <= len(received)
                ):
                    self._parsed = end
                    self.exhausted = end == len(received)
                    message = received[payload:end]
                    if self._masked:
                        message = mask(message, received[payload - 4 : payload])
                    return message if first == FIN_BINARY else self._decoded(message)
        return self._next_event()

    def _decoded(self, message: bytes) -> str | Fault:
        try:
            return message.decode()
        except UnicodeDecodeError as exc:
            return self._fail(CloseCode.INVALID_DATA, str(exc), "protocol_error")

    def _next_event(self) -> Event | None:
        """As ``next_event()``, for every kind of frame."""
        if self.streaming and self.kept_size:
            return Part(self._take_kept(), finished=False)
        while self._parsed < len(self._received):
            before = self._parsed
            if self._plain is not None:
                event = self._take_plain(self._plain)
            elif self._between and not self.streaming:
                event = self._next_plain()
            else:
                event = self._next_other()
            self._between = (
                self._fast
                and self._plain is None
                and self._bounds.at_start
                and self._text is None
                and self._binary is None
            )
            if event is not None:
                return event
            if self._parsed == before:
                break  # the header has not arrived whole
        self.exhausted = True
        return None

    def _next_plain(self) -> Event | None:
        """Parse the next frame here if it is a plain one; wsproto parses every other."""
        received, start = self._received, self._parsed
        found = plain_frame_at(
            received, start, masked=self._masked, compressed=self._deflate is not None
        )
        if found is None:
            ping_or_pong = plain_ping_or_pong_at(received, start, masked=self._masked)
            if ping_or_pong is not None:
                is_ping, content, self._parsed = ping_or_pong
                return Ping(content) if is_ping else Pong(content)
            close = plain_close_at(received, start, masked=self._masked)
            return self._next_other() if close is None else self._take_close(*close)
        payload, size = found
        if payload > len(received):
            return None
        end = payload + size
        compressed = received[start] & RSV1
        if compressed and end > len(received):
            return self._next_other()
        if not compressed and (size > self._max_message_size or size > self._max_frame_size):
            self._message_size = self._frame_size = size
            return self._check_size()
        text = (received[start] & ~RSV1) == FIN_TEXT
        key = received[payload - 4 : payload] if self._masked else b""
        if end > len(received):
            self._parsed = payload
            self._plain = PlainFrame(text=text, size=size, key=key)
            return self._take_plain(self._plain)
        self._parsed = end
        # Unmasking makes a copy, so none is made for it.
        message = mask(memoryview(received)[payload:end], key) if key else received[payload:end]
        if compressed:
            return self._inflated(message, text)
        return self._decoded(message) if text else message

    def _inflated(self, payload: bytes, text: bool) -> Event:
        """The message of a whole compressed frame."""
        assert self._deflate is not None
        message = self._deflate.inflate_message(payload)
        if isinstance(message, CloseReason):
            if message is CloseReason.MESSAGE_TOO_BIG:
                return self._too_big("message", self._max_message_size)
            return self._fail(message, "error in extension", "protocol_error")
        event = self._decoded(message) if text else message
        if len(message) > self._max_frame_size and not isinstance(event, Fault):
            return self._too_big("frame", self._max_frame_size)
        return event

    def _take_plain(self, frame: PlainFrame) -> Event | None:
        start = self._parsed
        self._parsed = min(len(self._received), start + frame.expected_bytes)
        try:
            message = frame.take(memoryview(self._received)[start : self._parsed])
        except UnicodeDecodeError as exc:
            return self._fail(CloseCode.INVALID_DATA, str(exc), "protocol_error")
        finished = message is not None
        self.expected_bytes = frame.expected_bytes
        if finished:
            self._plain = None
        if self.streaming:
            return self._part(frame.take_kept() if message is None else message, finished)
        return message

    def _next_other(self) -> Event | None:
        """Give wsproto the rest of its frame, as far as it has arrived, and no byte behind it."""
        part = self._bounds.take(self._received, self._parsed)
        self._parsed += len(part)
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = self._new_wsproto(client=not self._masked)
        decoder.receive_bytes(part)
        try:
            for frame in decoder.received_frames():
                event = self._take_frame(frame)
                if event is not None:
                    return event
        except ParseFailed as exc:
            if int(exc.code) == CloseCode.MESSAGE_TOO_BIG:  # found by the extension
                return self._too_big("message", self._max_message_size)
            return self._fail(exc.code, str(exc), "protocol_error")
        return None

    def _take_frame(self, frame: Frame) -> Event | None:
        """Take a frame, or the part of it that has arrived; return the event that it completes."""
        payload = frame.payload
        if frame.opcode is Opcode.PING:
            return Ping(bytes(payload))  # type: ignore[arg-type]  # bytes for every control frame but Close
        if frame.opcode is Opcode.PONG:
            return Pong(bytes(payload))  # type: ignore[arg-type]  # as above
        if isinstance(payload, tuple):
            return self._take_close(int(payload[0]), payload[1])

        size = len(payload.encode()) if isinstance(payload, str) else len(payload)
        self._frame_size += size
        self._message_size += size
        fault = self._check_size()
        if fault is not None:
            return fault
        if frame.frame_finished:
            self._frame_size = 0
        return self._take_payload(payload, frame.message_finished)

    def _take_close(self, code: int, reason: str) -> PeerClose:
        self.close_received = True
        self._received = b""
        return PeerClose(code, reason)

    def _check_size(self) -> Fault | None:
        for subject, size, limit in (
            ("message", self._message_size, self._max_message_size),
            ("frame", self._frame_size, self._max_frame_size),
        ):
            if size > limit:
                return self._too_big(subject, limit)
        return None

    def _too_big(self, subject: str, limit: int) -> Fault:
        return self._fail(
            CloseCode.MESSAGE_TOO_BIG, f"{subject} larger than {limit} bytes", "too_big"
        )

    def _take_payload(self, payload: str | bytes, finished: bool) -> Event | None:
        if finished:
            self._message_size = 0
        if self.streaming:
            # An empty accumulator stays: it says that a fragmented message is open.
            if isinstance(payload, str):
                self._text = None if finished else io.StringIO()
                return self._part(payload, finished)
            self._binary = None if finished else bytearray()
            return self._part(bytes(payload), finished)
        if isinstance(payload, str):
            if self._text is None:
                if finished:
                    return payload
                self._text = io.StringIO()
            self._text.write(payload)
            if not finished:
                return None
            text = self._text.getvalue()
            self._text = None
            return text
        if self._binary is None:
            if finished:
                return bytes(payload)
            self._binary = bytearray()
        self._binary += payload
        if not finished:
            return None
        binary = bytes(self._binary)
        self._binary = None
        return binary

    def _take_kept(self) -> str | bytes:
        """The beginning of a message, kept before ``streaming`` was set."""
        if self._plain is not None:
            return self._plain.take_kept()
        if self._text is not None:
            text, self._text = self._text.getvalue(), io.StringIO()
            return text
        assert self._binary is not None
        binary, self._binary = bytes(self._binary), bytearray()
        return binary

    def _part(self, data: str | bytes, finished: bool) -> Part | None:
        if finished:
            self.streaming = False
        return Part(data, finished) if data or finished else None

    def _fail(self, code: int, reason: str, cause: Cause) -> Fault:
        self.failed = True
        self._text = self._binary = self._plain = None
        self.expected_bytes = 0
        self._received = b""
        return Fault(int(code), reason, cause)
