"""RFC 6455 after the handshake: bytes in, events out; messages in, bytes out.

Pure: no I/O, no threads, no clock. wsproto parses and writes the frames, except
for the plain ones of ``frames.py``; this file puts messages together, enforces
the limits and keeps the state.

Two halves that share nothing, so that two threads may work at the same time:

* *inbound*, ``receive_data`` and ``next_event``: used under the reader's lock;
* *outbound*, ``message``, ``ping``, ``pong`` and ``close``: under the writer's.

Events come one at a time, parsed when asked for: a fault behind a message does
not overtake it.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from enum import Enum

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from ..close import Cause, CloseCode
from .deflate import DeflateExtension
from .frames import (
    FrameBounds,
    PlainFrame,
    data_header,
    plain_frame_at,
)
from .masking import mask
from .prepared import PreparedMessage

__all__ = [
    "Binary",
    "Data",
    "Event",
    "Fault",
    "MessageOpenError",
    "Part",
    "PeerClose",
    "Ping",
    "Pong",
    "Protocol",
    "State",
]


class State(Enum):
    """Where the session is (RFC 6455 sections 4.1 and 7.1)."""

    OPEN = "open"
    #: One side has sent its Close, or the connection has been failed.
    CLOSING = "closing"
    #: Both sides have.
    CLOSED = "closed"


@dataclass(frozen=True)
class Ping:
    payload: bytes


@dataclass(frozen=True)
class Pong:
    payload: bytes


@dataclass(frozen=True)
class PeerClose:
    """The peer's Close frame; the code is 1005 when it carried none."""

    code: int
    reason: str


@dataclass(frozen=True)
class Fault:
    """The peer broke a rule: fail the connection (RFC 6455 section 7.1.7)."""

    code: int
    reason: str
    cause: Cause


@dataclass(frozen=True)
class Part:
    """A part of a message, as it arrives; only while ``Protocol.streaming`` is set."""

    data: str | bytes
    #: Whether it is the last one.
    finished: bool

    def __len__(self) -> int:
        return len(self.data)


class MessageOpenError(Exception):
    """A message in fragments is being sent: no other can begin before it has ended."""


#: What can be sent: text, or binary.
Binary = bytes | bytearray | memoryview
Data = str | Binary

#: A text message, a binary message, or what else the peer sent.
Event = str | bytes | Part | Ping | Pong | PeerClose | Fault


class Protocol:
    """One side of one WebSocket connection: the server's, or the ``client``'s.

    ``masking`` says whether what is sent is masked; None: as it is to be, by a
    client and not by a server (RFC 6455 section 5.1). What is received has to be
    so in any case.

    ``fast=False`` leaves every frame to wsproto: for the tests that hold the
    fast path against it.
    """

    def __init__(
        self,
        *,
        client: bool = False,
        masking: bool | None = None,
        max_message_size: int,
        max_frame_size: int | None = None,
        deflate: DeflateExtension | None = None,
        fast: bool = True,
    ) -> None:
        self._deflate = deflate
        self.client = client
        self._masking = client if masking is None else masking
        self._frames = FrameProtocol(client=client, extensions=[deflate] if deflate else [])
        # How frames are written; its decoder has been told how they are read.
        self._frames.client = self._masking
        self._max_message_size = max_message_size
        self._max_frame_size = max_frame_size or max_message_size
        self._fast = fast
        # What was received and not parsed yet: _received[_parsed:].
        self._received = b""
        self._parsed = 0
        # Whether next_event() has come to the end of it.
        self._exhausted = True
        # A plain frame whose payload is still arriving.
        self._plain: PlainFrame | None = None
        # Which bytes are wsproto's, and so where its frame ends.
        self._other = FrameBounds()
        #: Bytes so far of the data frame and of the message being received.
        self._frame_size = 0
        self._message_size = 0
        # Accumulators, not lists of parts: a message of a million one-byte
        # fragments costs no more than one of a million bytes.
        self._text: io.StringIO | None = None
        self._binary: bytearray | None = None
        #: Whether the next message, or the one being received, comes in parts
        #: as they arrive; reset with the last of them. Set under the reader's lock.
        self.streaming = False
        #: Whether a message in fragments is being sent. Set by the outbound half.
        self.fragmenting = False
        self.messages_sent = 0
        #: Set by the inbound half.
        self.close_received = False
        self.failed = False
        #: Set by the outbound half.
        self.close_sent = False

    @property
    def state(self) -> State:
        if self.close_received and self.close_sent:
            return State.CLOSED
        if self.close_received or self.close_sent or self.failed:
            return State.CLOSING
        return State.OPEN

    # Inbound

    @property
    def input_over(self) -> bool:
        """Whether nothing that still arrives means anything."""
        return self.close_received or self.failed

    @property
    def unread(self) -> bool:
        """Whether something was received that ``next_event()`` has not come to yet."""
        return not self._exhausted and self._parsed < len(self._received)

    @property
    def missing(self) -> int:
        """Bytes that the message being received is known to lack; 0 for unknown."""
        return self._plain.missing if self._plain is not None else 0

    @property
    def held(self) -> int:
        """Bytes, or characters, that are kept of a message that has not come whole."""
        if self._plain is not None:
            return self._plain.held
        if self._text is not None:
            return self._text.tell()
        return len(self._binary or b"")

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; ignored once its Close or a fault has come."""
        if self.input_over:
            return
        if self._parsed < len(self._received):
            self._received = self._received[self._parsed :] + data
        else:
            self._received = data
        self._parsed = 0
        self._exhausted = False

    def next_event(self) -> Event | None:
        """The next event in what was received, None when more bytes are needed."""
        if self.streaming and self.held:
            return Part(self._take_held(), finished=False)
        while self._parsed < len(self._received):
            before = self._parsed
            if self._plain is not None:
                event = self._take_plain(self._plain)
            elif (
                self._fast
                and not self._message_open
                and self._other.at_start
                and not self.streaming
            ):
                event = self._next_plain()
            else:
                event = self._next_other()
            if event is not None:
                return event
            if self._parsed == before:
                break  # a header that has not come whole
        self._exhausted = True
        return None

    def _next_plain(self) -> Event | None:
        """The next frame, if it is a plain one; anything else goes to wsproto."""
        received, start = self._received, self._parsed
        found = plain_frame_at(received, start, masked=not self.client)
        if found is None:
            return self._next_other()
        payload, size = found
        if payload > len(received):
            return None
        if size > self._max_message_size or size > self._max_frame_size:
            self._message_size = self._frame_size = size
            return self._check_size()
        end = payload + size
        text = received[start] == 0x81
        key = b"" if self.client else received[payload - 4 : payload]
        if end > len(received):
            self._parsed = payload
            self._plain = PlainFrame(text=text, size=size, key=key)
            return self._take_plain(self._plain)
        self._parsed = end
        message = received[payload:end]
        if key:
            message = mask(message, key)
        if not text:
            return message
        try:
            return message.decode()
        except UnicodeDecodeError as exc:
            return self._fail(CloseCode.INVALID_DATA, str(exc), "protocol_error")

    def _take_plain(self, frame: PlainFrame) -> Event | None:
        start = self._parsed
        self._parsed = min(len(self._received), start + frame.missing)
        try:
            message = frame.take(self._received[start : self._parsed])
        except UnicodeDecodeError as exc:
            return self._fail(CloseCode.INVALID_DATA, str(exc), "protocol_error")
        finished = message is not None
        if finished:
            self._plain = None
        if self.streaming:
            return self._part(frame.take_out() if message is None else message, finished)
        return message

    def _next_other(self) -> Event | None:
        """Give wsproto its next bytes, none behind the end of a frame."""
        part = self._other.take(self._received, self._parsed)
        self._parsed += len(part)
        self._frames.receive_bytes(part)
        try:
            for frame in self._frames.received_frames():
                event = self._take_frame(frame)
                if event is not None:
                    return event
        except ParseFailed as exc:
            if int(exc.code) == CloseCode.MESSAGE_TOO_BIG:  # the extension's word
                return self._too_big("message", self._max_message_size)
            return self._fail(exc.code, str(exc), "protocol_error")
        return None

    @property
    def _message_open(self) -> bool:
        """Whether a message in fragments is being received."""
        return self._text is not None or self._binary is not None

    def _take_frame(self, frame: Frame) -> Event | None:
        """One frame, or the part of one that has arrived; an event when it completes one."""
        payload = frame.payload
        if frame.opcode is Opcode.PING:
            return Ping(bytes(payload))  # type: ignore[arg-type]  # bytes for every control frame but Close
        if frame.opcode is Opcode.PONG:
            return Pong(bytes(payload))  # type: ignore[arg-type]  # as above
        if isinstance(payload, tuple):
            self.close_received = True
            self._received = b""
            return PeerClose(int(payload[0]), payload[1])

        size = len(payload.encode()) if isinstance(payload, str) else len(payload)
        self._frame_size += size
        self._message_size += size
        fault = self._check_size()
        if fault is not None:
            return fault
        if frame.frame_finished:
            self._frame_size = 0
        return self._take_payload(payload, frame.message_finished)

    def _check_size(self) -> Fault | None:
        for what, size, limit in (
            ("message", self._message_size, self._max_message_size),
            ("frame", self._frame_size, self._max_frame_size),
        ):
            if size > limit:
                return self._too_big(what, limit)
        return None

    def _too_big(self, what: str, limit: int) -> Fault:
        return self._fail(CloseCode.MESSAGE_TOO_BIG, f"{what} larger than {limit} bytes", "too_big")

    def _take_payload(self, payload: str | bytes, finished: bool) -> Event | None:
        if finished:
            self._message_size = 0
        if self.streaming:
            # The accumulators stay, empty: they say that a message is open.
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

    def _take_held(self) -> str | bytes:
        """What has come of a message before it was to come in parts."""
        if self._plain is not None:
            return self._plain.take_out()
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
        self._received = b""
        return Fault(int(code), reason, cause)

    # Outbound

    def message(self, data: Data) -> tuple[bytes, Binary]:
        """A whole message as one frame, header and payload: text for ``str``, else binary.

        Raises ``MessageOpenError`` between the fragments of another message.
        """
        if self.fragmenting:
            raise MessageOpenError
        if isinstance(data, memoryview) and not (
            data.ndim == 1 and data.itemsize == 1 and data.c_contiguous
        ):
            data = data.tobytes()  # a len() of bytes, in one piece
        if self._deflate is not None and len(data) >= self._deflate.min_size:
            if isinstance(data, memoryview):
                data = data.tobytes()
            frame = bytes(self._frames.send_data(data))
            self.messages_sent += 1
            return frame, b""
        text = isinstance(data, str)
        payload = data.encode() if isinstance(data, str) else data
        self.messages_sent += 1
        if self._masking:
            # Fresh for each frame, and not to be foreseen (RFC 6455 section 5.3).
            key = os.urandom(4)
            payload = mask(bytes(payload), key)
            return data_header(len(payload), text=text, key=key), payload
        return data_header(len(payload), text=text), payload

    def prepared(self, message: PreparedMessage) -> tuple[bytes, Binary]:
        """As ``message()``, of one that has been encoded for all."""
        if self._masking:
            return b"".join(self.message(message.data)), b""  # with a key of its own
        if self.fragmenting:
            raise MessageOpenError
        self.messages_sent += 1
        if self._deflate is None or len(message) < self._deflate.min_size:
            return message.frame, b""
        self._deflate.forget_sent()
        return message.deflated(self._deflate), b""

    def fragment(self, data: Data, *, finished: bool) -> bytes:
        """A part of a message; the first says whether it is text (RFC 6455 section 5.4).

        Raises ``TypeError`` when this one is of the other kind.
        """
        if isinstance(data, memoryview):
            data = data.tobytes()
        encoded = bytes(self._frames.send_data(data, fin=finished))
        self.fragmenting = not finished
        self.messages_sent += finished
        return encoded

    def ping(self, payload: bytes) -> bytes:
        return bytes(self._frames.ping(payload))

    def pong(self, payload: bytes) -> bytes:
        return bytes(self._frames.pong(payload))

    def close(self, code: int, reason: str) -> bytes:
        """The Close frame; for 1005 one without a code (RFC 6455 section 5.5.1)."""
        self.close_sent = True
        if code == CloseCode.NO_STATUS_RECEIVED:
            return bytes(self._frames.close())
        return bytes(self._frames.close(code, reason))
