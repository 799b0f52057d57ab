"""The outbound half of the protocol: messages and control frames to bytes.

Pure: no I/O, no threads, no clock. The caller holds the writer's lock. The header of a whole
message is written by ``frames.py``, and so are a server's control frames; wsproto writes every
other frame.
"""

from __future__ import annotations

import os

from wsproto.frame_protocol import FrameProtocol

from ..close import CloseCode
from .deflate import DeflateExtension
from .frames import (
    SHORT,
    SHORT_BINARY,
    SHORT_TEXT,
    close_frame,
    data_header,
    ping_frame,
    pong_frame,
)
from .inbound import Inbound
from .masking import mask
from .prepared import PreparedMessage

__all__ = ["Binary", "Data", "MessageOpenError", "Outbound"]

#: What a message can be made of: ``str`` for text, anything bytes-like for binary.
Binary = bytes | bytearray | memoryview
Data = str | Binary


class MessageOpenError(Exception):
    """A fragmented message is being sent; no other message can begin before its end."""


class Outbound(Inbound):
    """Adds to the inbound half what one side sends; ``masking`` says whether it masks its frames.

    The two halves are one chain of classes, since a compiled class has a single base.
    """

    __slots__ = (
        "_encoder",
        "_masking",
        "close_sent",
        "fragmenting",
        "messages_sent",
        "shares_frames",
    )

    def __init__(
        self,
        *,
        client: bool,
        masking: bool,
        max_message_size: int,
        max_frame_size: int,
        deflate: DeflateExtension | None,
        fast: bool,
    ) -> None:
        super().__init__(
            client=client,
            max_message_size=max_message_size,
            max_frame_size=max_frame_size,
            deflate=deflate,
            fast=fast,
        )
        # wsproto's, made for the first frame that it writes.
        self._encoder: FrameProtocol | None = None
        self._masking = masking
        #: Whether the frame of a prepared message goes out as it is.
        self.shares_frames = not masking and deflate is None
        #: Whether a fragmented message is being sent.
        self.fragmenting = False
        self.messages_sent = 0
        self.close_sent = False

    def _wsproto(self) -> FrameProtocol:
        """What writes the frames that are not written here. Most sessions need none: it would be
        a sixth of the objects of a short one. To wsproto a client is the side that masks."""
        if self._encoder is None:
            self._encoder = self._new_wsproto(client=self._masking)
        return self._encoder

    def message(self, data: Data) -> tuple[bytes, Binary]:
        """A whole message as one frame, header and payload: text for ``str``, else binary.

        Raises ``MessageOpenError`` between the fragments of another message.
        """
        if self.fragmenting:
            raise MessageOpenError
        text = isinstance(data, str)
        if isinstance(data, memoryview) and not (
            data.ndim == 1 and data.itemsize == 1 and data.c_contiguous
        ):
            data = data.tobytes()  # so that len() counts bytes, and they lie in one piece
        payload = data.encode() if isinstance(data, str) else data
        self.messages_sent += 1
        compressed = False
        if self._deflate is not None and len(data) >= self._deflate.min_size:
            if not self._fast:
                whole = data if isinstance(data, str) else bytes(payload)
                return bytes(self._wsproto().send_data(whole)), b""
            payload = self._deflate.deflate(payload, finished=True)
            compressed = True
        if self._masking:
            # A fresh and unpredictable key for each frame (RFC 6455 section 5.3).
            key = os.urandom(4)
            payload = mask(bytes(payload), key)
            return data_header(len(payload), text=text, key=key, compressed=compressed), payload
        size = len(payload)
        if size <= SHORT and not compressed:
            return SHORT_TEXT[size] if text else SHORT_BINARY[size], payload
        return data_header(size, text=text, compressed=compressed), payload

    def prepared(self, message: PreparedMessage) -> tuple[bytes, Binary]:
        """As ``message()``, for a message that has been encoded once for many sessions."""
        if self.shares_frames and not self.fragmenting:
            self.messages_sent += 1
            return message.frame, b""
        if self._masking:
            return b"".join(self.message(message.data)), b""  # each frame has its own key
        if self.fragmenting:
            raise MessageOpenError
        self.messages_sent += 1
        if self._deflate is None or len(message) < self._deflate.min_size:
            return message.frame, b""
        self._deflate.forget_sent()
        return message.deflated(self._deflate), b""

    def fragment(self, data: Data, *, finished: bool) -> bytes:
        """A fragment of a message; the first one decides on text or binary (RFC 6455 section 5.4).

        Raises ``TypeError`` when a later fragment is of the other kind.
        """
        if isinstance(data, memoryview):
            data = data.tobytes()
        encoded = bytes(self._wsproto().send_data(data, fin=finished))
        self.fragmenting = not finished
        self.messages_sent += finished
        return encoded

    def ping(self, payload: bytes) -> bytes:
        if self._fast and not self._masking:
            return ping_frame(payload)
        return bytes(self._wsproto().ping(payload))

    def pong(self, payload: bytes) -> bytes:
        if self._fast and not self._masking:
            return pong_frame(payload)
        return bytes(self._wsproto().pong(payload))

    def close(self, code: int, reason: str) -> bytes:
        """The Close frame; 1005 makes one without a code (RFC 6455 section 5.5.1)."""
        self.close_sent = True
        if self._fast and not self._masking and (frame := close_frame(code, reason)) is not None:
            return frame
        if code == CloseCode.NO_STATUS_RECEIVED:
            return bytes(self._wsproto().close())
        return bytes(self._wsproto().close(code, reason))
