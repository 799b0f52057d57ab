"""Compression: the extension permessage-deflate (RFC 7692).

Pure: no I/O, no threads, no clock. This file holds the options, what a session has agreed on, and
the extension as wsproto calls it for each frame. ``deflate_offers.py`` negotiates it,
``inflating.py`` inflates.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from .inflating import Inflater, TooBigError

__all__ = ["Deflate", "DeflateExtension"]


@dataclass(frozen=True)
class Deflate:
    """How messages are compressed, for the option ``compression``.

    The names are those of RFC 7692 and mean the same for ``connect()``: ``server_…`` is about
    the messages that the server compresses, ``client_…`` about those of the client.

    A session with compression keeps two contexts. On the server, zlib takes
    ``2**(server_max_window_bits + 2) + 2**(memory_level + 9)`` bytes to deflate, and
    ``2**client_max_window_bits`` bytes and 7 KiB to inflate; syncws keeps another
    ``2**client_max_window_bits`` bytes of what was inflated. On the client the two sides change
    places. Measured, both contexts together: 56 KiB with the defaults here, 281 KiB with those of
    zlib (15, 8 and 15). Without context takeover, a context is made for each message and thrown
    away after it.
    """

    #: 9 to 15: repetitions are found in a window of ``2**bits`` bytes. 12 keeps most of the gain
    #: for an eighth of the memory. Precedent: Python's websockets.
    server_max_window_bits: int = 12
    #: The same for the client's messages. A server can ask this only of clients that offer it.
    client_max_window_bits: int = 12
    #: Whether each message is compressed on its own.
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    #: 1 (quick) to 9 (small). Precedent: zlib's own default.
    level: int = 6
    #: 1 to 9: more memory makes deflating faster. Precedent: Python's websockets.
    memory_level: int = 5
    #: Bytes of the smallest message that is compressed. For smaller ones, the header of a
    #: compressed block and the time outweigh the gain.
    min_size: int = 128

    def __post_init__(self) -> None:
        for name, low, high in (
            ("server_max_window_bits", 9, 15),
            ("client_max_window_bits", 9, 15),
            ("level", 1, 9),
            ("memory_level", 1, 9),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} is an int from {low} to {high}, not {value!r}")
        if not isinstance(self.min_size, int) or self.min_size < 0:
            raise ValueError(f"min_size is a number of bytes, an int, not {self.min_size!r}")


class DeflateExtension(Extension):
    """What one session has agreed on, and its two contexts; on the server, or on the ``client``.

    The negotiation sets the four parameters before the first frame. A window of 15 bits is what
    RFC 7692 assumes without a parameter.
    """

    name = "permessage-deflate"

    def __init__(self, options: Deflate, max_message_size: int, *, client: bool = False) -> None:
        self.options = options
        self.server_max_window_bits = 15
        self.client_max_window_bits = 15
        self.server_no_context_takeover = False
        self.client_no_context_takeover = False
        self._client = client
        self._max_message_size = max_message_size
        self._deflater: zlib._Compress | None = None
        self._inflater: Inflater | None = None
        # Of the frame and of the message that are being received.
        self._control = False
        self._compressed = False

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False  # deflate_offers.py negotiates, and not wsproto

    # Outbound

    @property
    def min_size(self) -> int:
        return self.options.min_size

    @property
    def key(self) -> tuple[int, ...]:
        """The values that the compression of a single message depends on."""
        bits = self.client_max_window_bits if self._client else self.server_max_window_bits
        return bits, self.options.level, self.options.memory_level

    def deflate_alone(self, payload: bytes) -> bytes:
        """A whole message, without a reference to earlier ones."""
        deflater = self._new_deflater()
        return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def forget_sent(self) -> None:
        """Refer to no earlier message any more: the peer was sent one that was not made here."""
        self._deflater = None

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        """Deflate (RFC 7692 section 7.2.1). Each fragment carries all of the data given to it."""
        if opcode.iscontrol():
            return rsv, data
        # The first frame of a message sets RSV1 (RFC 7692 section 6).
        rsv1 = opcode is not Opcode.CONTINUATION
        return RsvBits(rsv1, rsv.rsv2, rsv.rsv3), self.deflate(data, finished=fin)

    def deflate(self, data: bytes | bytearray | memoryview, *, finished: bool) -> bytes:
        """Deflate the next part of a message, which may be the last one."""
        if self._deflater is None:
            self._deflater = self._new_deflater()
        deflated = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        if not finished:
            return deflated
        if self.client_no_context_takeover if self._client else self.server_no_context_takeover:
            self._deflater = None
        # The message leaves out its last four bytes (RFC 7692 section 7.2.1).
        return deflated[:-4]

    def _new_deflater(self) -> zlib._Compress:
        bits, level, memory_level = self.key
        if bits > 8:
            return zlib.compressobj(level, zlib.DEFLATED, -bits, memory_level)
        # zlib has no window of 8 bits. Z_RLE refers to the byte before and no further, which
        # fits into every window.
        return zlib.compressobj(level, zlib.DEFLATED, -9, memory_level, zlib.Z_RLE)

    # Inbound

    def inflate_message(self, payload: bytes) -> bytes | CloseReason:
        """Inflate the message of a whole frame. The methods below are not called for it."""
        return self._inflate(lambda inflater: inflater.message(payload))

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> RsvBits:
        """The reserved bits that the frame may have: RSV1, if it is the first of a message.

        wsproto calls this again when the header has not arrived whole, with the same values.
        """
        self._control = opcode.iscontrol()
        if opcode not in (Opcode.TEXT, Opcode.BINARY):
            return RsvBits(False, False, False)
        self._compressed = rsv.rsv1
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate, and stop as soon as the message is too big."""
        if self._control or not self._compressed:
            return data
        return self._inflate(lambda inflater: inflater.inflate(data))

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if self._control or not self._compressed or not fin:
            return None
        # A continuation frame that begins no message is a protocol error, not compressed data.
        self._compressed = False
        return self._inflate(Inflater.finish)

    def _inflate(self, step: Callable[[Inflater], bytes]) -> bytes | CloseReason:
        """Take a step of the inflater; return what comes out, or why the session has to end."""
        if self._inflater is None:
            bits = self.server_max_window_bits if self._client else self.client_max_window_bits
            alone = (
                self.server_no_context_takeover if self._client else self.client_no_context_takeover
            )
            self._inflater = Inflater(bits, takeover=not alone, limit=self._max_message_size)
        try:
            return step(self._inflater)
        except TooBigError:
            return CloseReason.MESSAGE_TOO_BIG
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
