"""Compression: permessage-deflate (RFC 7692), through wsproto's extension.

What wsproto leaves open is added here: a bound on what comes out while it is
inflated, offers read strictly, the level, and messages too small to compress.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

__all__ = ["Deflate", "DeflateExtension", "accepted_deflate", "negotiate_deflate", "offer_deflate"]

#: Deflate expands to this many times the size at most.
_MAX_RATIO = 1032
#: Bytes inflated at a time at least; what comes out beyond the limit before it
#: is noticed is bounded by this, times the ratio.
_MIN_STEP = 128


@dataclass(frozen=True)
class Deflate:
    """How messages are compressed, for the option ``compression``; described as
    a server sees it. For ``connect()`` the two sides change places.

    A session with compression keeps two contexts of zlib's: one to deflate, of
    ``2**(server_max_window_bits + 2) + 2**(memory_level + 9)`` bytes, and one
    to inflate, of ``2**client_max_window_bits`` bytes and 7 KiB. Measured, both
    together: 52 KiB with the defaults here, 243 KiB with zlib's own (15, 8 and
    15). Without context takeover they are made for each message and thrown
    away after it.
    """

    #: 9 to 15: the window in which repetitions are found is ``2**bits`` bytes.
    #: 12 keeps most of the gain and an eighth of the memory. Precedent:
    #: Python's websockets.
    server_max_window_bits: int = 12
    #: The same for the peer's messages; only peers that offer to limit it do.
    client_max_window_bits: int = 12
    #: Whether each message is compressed on its own.
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    #: 1 (quick) to 9 (small). Precedent: zlib's own default.
    level: int = 6
    #: 1 to 9: memory for speed. Precedent: Python's websockets.
    memory_level: int = 5
    #: Bytes of the smallest message that is compressed: below, the header of a
    #: compressed block and the time spent outweigh the gain.
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


class DeflateExtension(PerMessageDeflate):
    """wsproto's extension for one session, as it was agreed on; on the server's
    side of it, or the ``client``'s."""

    def __init__(self, options: Deflate, max_message_size: int, *, client: bool = False) -> None:
        super().__init__()
        self._options = options
        self._client = client
        self._max_message_size = max_message_size
        self._inflated = 0
        self._deflater: zlib._Compress | None = None

    @property
    def min_size(self) -> int:
        return self._options.min_size

    def accept(self, offer: str) -> str | None:
        """Our answer to an offer (RFC 7692 section 7.1), None to decline it."""
        asked = _parameters(offer)
        if asked is None:
            return None
        ours = self._options
        answer = []
        if "server_no_context_takeover" in asked or ours.server_no_context_takeover:
            self.server_no_context_takeover = True
            answer.append("server_no_context_takeover")
        if "client_no_context_takeover" in asked or ours.client_no_context_takeover:
            self.client_no_context_takeover = True
            answer.append("client_no_context_takeover")
        bits = min(asked.get("server_max_window_bits") or 15, ours.server_max_window_bits)
        self.server_max_window_bits = bits
        answer.append(f"server_max_window_bits={bits}")
        # Only a client that says it can limit its window may be asked to.
        if "client_max_window_bits" in asked:
            bits = min(asked["client_max_window_bits"] or 15, ours.client_max_window_bits)
            self.client_max_window_bits = bits
            answer.append(f"client_max_window_bits={bits}")
        return "; ".join(answer)

    @property
    def key(self) -> tuple[int, ...]:
        """What compressing a message on its own depends on."""
        bits = self.client_max_window_bits if self._client else self.server_max_window_bits
        return bits, self._options.level, self._options.memory_level

    def deflate_alone(self, payload: bytes) -> bytes:
        """A whole message, without reference to those before."""
        bits, level, memory_level = self.key
        deflater = zlib.compressobj(level, zlib.DEFLATED, -bits, memory_level)
        return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]

    def forget_sent(self) -> None:
        """The peer was sent something else: refer to nothing before this any more."""
        self._deflater = None

    def finalize(self, offer: str) -> None:
        """Take the server's answer to our offer (RFC 7692 section 7.1).

        Raises ``ValueError`` for one that the offer does not allow.
        """
        answer, ours = _parameters(offer), self._options
        if answer is None or ("client_max_window_bits", None) in answer.items():
            raise ValueError(f"{offer!r} is no answer to an offer of permessage-deflate")
        bits = answer.get("server_max_window_bits")
        if bits is None or bits > ours.server_max_window_bits:
            raise ValueError(
                f"{offer!r} does not agree to server_max_window_bits={ours.server_max_window_bits}"
            )
        self.server_max_window_bits = bits
        self.server_no_context_takeover = "server_no_context_takeover" in answer
        if ours.server_no_context_takeover and not self.server_no_context_takeover:
            raise ValueError(f"{offer!r} does not agree to server_no_context_takeover")
        # These bind us, and we may do with less than the server would allow.
        self.client_max_window_bits = min(
            answer.get("client_max_window_bits") or 15, ours.client_max_window_bits
        )
        self.client_no_context_takeover = (
            "client_no_context_takeover" in answer or ours.client_no_context_takeover
        )

    def enabled(self) -> bool:
        return True

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        compressed = self._inbound_compressed
        answer = super().frame_inbound_header(proto, opcode, rsv, payload_length)
        if opcode.iscontrol():
            # wsproto takes it for a part of the message that it comes in between.
            self._inbound_compressed = compressed
        return answer

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate, and stop as soon as the message is too big."""
        inflated = bytearray()
        start = 0
        while start < len(data):
            room = self._max_message_size - self._inflated
            step = max(_MIN_STEP, room // _MAX_RATIO)
            part = super().frame_inbound_payload_data(proto, data[start : start + step])
            if isinstance(part, CloseReason):
                return part
            start += step
            inflated += part
            self._inflated += len(part)
            if self._inflated > self._max_message_size:
                return CloseReason.MESSAGE_TOO_BIG
        return bytes(inflated)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if not self._inbound_is_compressible:
            return None  # a control frame ends nothing
        if fin:
            self._inflated = 0
        return super().frame_inbound_complete(proto, fin)

    def frame_outbound(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        data: bytes,
        fin: bool,
    ) -> tuple[RsvBits, bytes]:
        """Deflate (RFC 7692 section 7.2.1). Each fragment carries all that it was made of."""
        if opcode.iscontrol():
            return rsv, data
        if self._deflater is None:
            bits, level, memory_level = self.key
            self._deflater = zlib.compressobj(level, zlib.DEFLATED, -bits, memory_level)
        deflated = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        alone = self.client_no_context_takeover if self._client else self.server_no_context_takeover
        if fin and alone:
            self._deflater = None
        # The bit is set in a message's first frame, and the last four bytes of
        # the message are left out (RFC 7692 sections 6 and 7.2.1).
        rsv1 = opcode is not Opcode.CONTINUATION
        return RsvBits(rsv1, rsv.rsv2, rsv.rsv3), deflated[:-4] if fin else deflated


def negotiate_deflate(
    offers: list[str], options: Deflate, max_message_size: int
) -> tuple[DeflateExtension, str] | None:
    """The first offer that can be accepted: the extension, and the answer's header."""
    for offer in offers:
        if offer.partition(";")[0].strip().lower() == PerMessageDeflate.name:
            extension = DeflateExtension(options, max_message_size)
            answer = extension.accept(offer)
            if answer is not None:
                return extension, f"{PerMessageDeflate.name}; {answer}"
    return None


def offer_deflate(options: Deflate) -> str:
    """A client's offer (RFC 7692 section 7.1), for the header of the request."""
    offer = (
        f"{PerMessageDeflate.name}; server_max_window_bits={options.server_max_window_bits}"
        f"; client_max_window_bits={options.client_max_window_bits}"
    )
    if options.server_no_context_takeover:
        offer += "; server_no_context_takeover"
    if options.client_no_context_takeover:
        offer += "; client_no_context_takeover"
    return offer


def accepted_deflate(answer: str, options: Deflate, max_message_size: int) -> DeflateExtension:
    """What a server has made of the offer. Raises ``ValueError`` for an answer that can not be."""
    if answer.partition(";")[0].strip().lower() != PerMessageDeflate.name:
        raise ValueError(f"{answer!r} was not offered")
    extension = DeflateExtension(options, max_message_size, client=True)
    extension.finalize(answer)
    return extension


def _parameters(offer: str) -> dict[str, int | None] | None:
    """The parameters of an offer, or an answer; None when there is one that is not in RFC 7692."""
    parameters: dict[str, int | None] = {}
    for part in offer.split(";")[1:]:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in parameters:
            return None
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if equals:
                return None
            parameters[name] = None
        elif name == "client_max_window_bits" and not equals:
            parameters[name] = None
        elif name in ("server_max_window_bits", "client_max_window_bits"):
            value = value.strip('"')
            # A window of 8 bits is more than zlib can do.
            if not value.isascii() or not value.isdigit() or not 9 <= int(value) <= 15:
                return None
            parameters[name] = int(value)
        else:
            return None
    return parameters
