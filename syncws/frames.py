"""The fast path: data frames that need nothing special (RFC 6455 section 5.2).

Most of what a server receives is a whole message in one masked frame, and all
that it sends without compression is a whole message in one frame without a
mask. For these two, a few lines here take a quarter of the time that a general
parser takes. Everything else is wsproto's: control frames, fragments,
extensions, and whatever is wrong. Property tests hold the two against each
other.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

import codecs
from struct import Struct

from .masking import mask

__all__ = ["PlainFrame", "data_header", "plain_frame_at"]

_FIN_TEXT = 0x81
_FIN_BINARY = 0x82
_MASKED = 0x80

#: Parts of a payload that are kept apart at most.
_MAX_PARTS = 1024

_UINT16 = Struct("!H")
_UINT64 = Struct("!Q")
_HEADER16 = Struct("!BBH")
_HEADER64 = Struct("!BBQ")


def data_header(size: int, *, text: bool) -> bytes:
    """The header of a whole message in one frame, not masked."""
    first = _FIN_TEXT if text else _FIN_BINARY
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return _HEADER16.pack(first, 126, size)
    return _HEADER64.pack(first, 127, size)


class PlainFrame:
    """A whole message in one masked frame, while its payload arrives.

    Text is decoded as it comes: bytes that are no UTF-8 are known at once, and
    not at the end of a megabyte (RFC 6455 section 8.1).
    """

    __slots__ = ("_binary", "_decode", "_key", "_text", "missing")

    def __init__(self, *, text: bool, size: int, key: bytes) -> None:
        #: Bytes of the payload that have yet to come.
        self.missing = size
        self._key = key
        self._decode = codecs.getincrementaldecoder("utf-8")().decode if text else None
        self._text: list[str] = []
        self._binary: list[bytes] = []

    def take(self, data: bytes) -> str | bytes | None:
        """Take the next bytes, ``missing`` at most; the message once it is whole.

        Raises ``UnicodeDecodeError`` as soon as the text can not be UTF-8.
        """
        self.missing -= len(data)
        part = mask(data, self._key)
        # The key goes on where these bytes have left it.
        turn = len(data) % 4
        if turn:
            self._key = self._key[turn:] + self._key[:turn]
        if self._decode is None:
            self._binary.append(part)
            if self.missing and len(self._binary) < _MAX_PARTS:
                return None
            # Once whole; and now and then, so that a megabyte that comes byte
            # by byte takes a megabyte.
            self._binary = [b"".join(self._binary)]
            return None if self.missing else self._binary[0]
        self._text.append(self._decode(part, not self.missing))
        if self.missing and len(self._text) < _MAX_PARTS:
            return None
        self._text = ["".join(self._text)]
        return None if self.missing else self._text[0]

    def take_out(self) -> str | bytes:
        """What has come so far; it will not be part of the message that ``take()`` gives."""
        if self._decode is None:
            binary, self._binary = b"".join(self._binary), []
            return binary
        text, self._text = "".join(self._text), []
        return text


def plain_frame_at(data: bytes, start: int) -> tuple[int, int] | None:
    """The offset and the size of the payload of the plain frame at ``start``.

    The offset lies behind the end of ``data`` when the header has not come
    whole; the size then means nothing. None for anything but a plain frame:
    another kind, or one with something wrong about its header.
    """
    if data[start] not in (_FIN_TEXT, _FIN_BINARY):
        return None
    if len(data) - start < 2:
        return start + 2, 0
    size = data[start + 1] - _MASKED
    if size < 126:
        return (start + 6, size) if size >= 0 else None
    payload = start + (8 if size == 126 else 14)
    if payload - 4 <= len(data):  # but for the mask's key
        # The shortest way to write the size is the only valid one.
        if size == 126:
            (size,) = _UINT16.unpack_from(data, start + 2)
            return (payload, size) if size > 125 else None
        (size,) = _UINT64.unpack_from(data, start + 2)
        return (payload, size) if 65535 < size < 1 << 63 else None
    return payload, 0
