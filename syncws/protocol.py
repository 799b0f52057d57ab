"""RFC 6455 after the handshake: bytes in, events out; messages in, bytes out.

Pure: no I/O, no threads, no clock. wsproto parses and writes the frames; this
file puts messages together, enforces the limits and keeps the state.

Two halves that share nothing, so that two threads may work at the same time:

* *inbound*, ``receive_data`` and ``next_event``: used under the reader's lock;
* *outbound*, ``message``, ``ping``, ``pong`` and ``close``: under the writer's.

Events come one at a time, parsed when asked for: a fault behind a message does
not overtake it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import Enum

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from .close import Cause, CloseCode

__all__ = ["Event", "Fault", "PeerClose", "Ping", "Pong", "Protocol", "State"]


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


#: A text message, a binary message, or what else the peer sent.
Event = str | bytes | Ping | Pong | PeerClose | Fault


class Protocol:
    """One side of one WebSocket connection."""

    def __init__(self, *, max_message_size: int, max_frame_size: int | None = None) -> None:
        self._frames = FrameProtocol(client=False, extensions=[])
        self._max_message_size = max_message_size
        self._max_frame_size = max_frame_size or max_message_size
        #: Bytes so far of the data frame and of the message being received.
        self._frame_size = 0
        self._message_size = 0
        # Accumulators, not lists of parts: a message of a million one-byte
        # fragments costs no more than one of a million bytes.
        self._text: io.StringIO | None = None
        self._binary: bytearray | None = None
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

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; ignored once its Close or a fault has come."""
        if not self.input_over:
            self._frames.receive_bytes(data)

    def next_event(self) -> Event | None:
        """The next event in what was received, None when more bytes are needed."""
        while not self.input_over:
            try:
                frame = next(self._frames.received_frames(), None)
            except ParseFailed as exc:
                return self._fail(exc.code, str(exc), "protocol_error")
            if frame is None:
                return None
            event = self._take_frame(frame)
            if event is not None:
                return event
        return None

    def _take_frame(self, frame: Frame) -> Event | None:
        """One frame, or the part of one that has arrived; an event when it completes one."""
        payload = frame.payload
        if frame.opcode is Opcode.PING:
            return Ping(bytes(payload))  # type: ignore[arg-type]  # bytes for every control frame but Close
        if frame.opcode is Opcode.PONG:
            return Pong(bytes(payload))  # type: ignore[arg-type]  # as above
        if isinstance(payload, tuple):
            self.close_received = True
            return PeerClose(int(payload[0]), payload[1])

        size = len(payload.encode()) if isinstance(payload, str) else len(payload)
        self._frame_size += size
        self._message_size += size
        if self._message_size > self._max_message_size:
            return self._fail(
                CloseCode.MESSAGE_TOO_BIG,
                f"message larger than {self._max_message_size} bytes",
                "too_big",
            )
        if self._frame_size > self._max_frame_size:
            return self._fail(
                CloseCode.MESSAGE_TOO_BIG,
                f"frame larger than {self._max_frame_size} bytes",
                "too_big",
            )
        if frame.frame_finished:
            self._frame_size = 0
        return self._take_payload(payload, frame.message_finished)

    def _take_payload(self, payload: str | bytes, finished: bool) -> Event | None:
        if finished:
            self._message_size = 0
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

    def _fail(self, code: int, reason: str, cause: Cause) -> Fault:
        self.failed = True
        self._text = self._binary = None
        return Fault(int(code), reason, cause)

    # Outbound

    def message(self, data: str | bytes | bytearray | memoryview) -> bytes:
        """A whole message as one frame: text for ``str``, else binary."""
        if isinstance(data, memoryview):
            data = data.tobytes()
        return bytes(self._frames.send_data(data))

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
