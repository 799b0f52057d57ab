"""Inflating the messages of one direction of a session (RFC 7692 section 7.2.2).

Pure: no I/O, no threads, no clock. zlib inflates; this file puts its streams together and bounds
the size of a message.
"""

from __future__ import annotations

import zlib

__all__ = ["Inflater", "TooBigError"]

#: The sender cuts these bytes off the end of each message (RFC 7692 section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"

#: Bytes inflated at a time. zlib copies the bytes behind a final block, so that many tiny final
#: blocks would take quadratic time without this bound.
_STEP = 4096


class TooBigError(Exception):
    """The message inflates to more bytes than it may."""


class Inflater:
    """Inflates one message after the other.

    ``bits`` is the peer's window, ``takeover`` says whether a message may refer to earlier ones,
    and ``limit`` is the number of bytes that a message may inflate to. Every method raises
    ``zlib.error`` for bytes that are not DEFLATE.

    A peer may mark any block as final (``BFINAL``), and may go on with another block behind it
    (RFC 7692 section 7.2.1). zlib's stream ends there, so a new stream begins. It is given the
    last bytes that came out, since later blocks may refer to them.
    """

    def __init__(self, bits: int, *, takeover: bool, limit: int) -> None:
        # zlib writes no window of 8 bits, and some peers that agree on 8 use 9.
        self._bits = max(9, bits)
        self._takeover = takeover
        self._limit = limit
        self._stream: zlib._Decompress | None = None
        # What later blocks may refer to: the last bytes that came out, one window at most.
        self._recent = b""
        # Bytes of the current message that have come out.
        self._size = 0
        # Whether a block has begun that zlib has not seen the end of, as far as is known.
        self._inside = False

    def message(self, data: bytes) -> bytes:
        """Inflate a whole message. Raises ``TooBigError`` if it is too big.

        It does what ``inflate()`` and ``finish()`` do. Most messages take one call of zlib here:
        each call gives the interpreter away to another thread.
        """
        if self._stream is None or not 0 < len(data) <= _STEP:
            return self.inflate(data) + self.finish()
        part = self._stream.decompress(data + _TAIL, self._limit + 1)
        self._size = len(part)
        if self._size > self._limit:
            raise TooBigError
        self._remember(part)
        if self._stream.eof:
            # It was a final block. If it ends within the message, the tail completes no block of
            # it; finish() knows whether another one has begun.
            rest = self._stream.unused_data
            self._stream, self._inside = None, False
            within = len(rest) >= len(_TAIL)
            part += self.inflate(rest[: -len(_TAIL)] if within else rest)
            if within:
                part += self.finish()
        self._size = 0
        self._inside = False
        return part

    def inflate(self, data: bytes) -> bytes:
        """Inflate the next bytes of a message. Raises ``TooBigError`` as soon as it is too big."""
        parts = []
        for start in range(0, len(data), _STEP):
            rest = data[start : start + _STEP]
            while rest:
                if self._stream is None:
                    self._stream = zlib.decompressobj(-self._bits, self._recent)
                # One byte more than there is room for, so that no room left is not taken for
                # zlib's 0, which means without a bound.
                part = self._stream.decompress(rest, self._limit - self._size + 1)
                if part:
                    self._size += len(part)
                    if self._size > self._limit:
                        raise TooBigError
                    parts.append(part)
                    self._remember(part)
                rest = self._stream.unused_data
                self._inside = not self._stream.eof
                if self._stream.eof:
                    self._stream = None
        return b"".join(parts)

    def finish(self) -> bytes:
        """The rest of the message, which ends here."""
        # The cut-off bytes complete the last block. There is none to complete in a message
        # without a byte, or right behind a final block. The RFC wants a zero byte in both
        # cases, which some peers leave out.
        rest = self.inflate(_TAIL) if self._inside else b""
        self._size = 0
        self._inside = False
        if not self._takeover:
            self._stream = None
            self._recent = b""
        return rest

    def _remember(self, part: bytes) -> None:
        window = 1 << self._bits
        if len(part) < window:
            part = (self._recent + part)[-window:]
        self._recent = part[-window:]
