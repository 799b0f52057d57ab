"""The fast path: frames that need nothing special (RFC 6455 section 5.2).

Most messages arrive whole in one frame, masked by a client and not by a server. All messages that
are not made of parts are sent in one frame. The few lines here take a quarter of the time that a
general parser takes for these *plain* frames, compressed or not. Most sessions end with a Close of
a code for a normal end. An idle session receives only Pongs; wsproto's calls for one go deeper than
all others, and the session's thread would keep one more page of memory. wsproto parses every other
frame: other Closes, fragments, compressed messages that arrive in pieces, and faults. Property
tests compare the two.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

import codecs
from struct import Struct
from typing import Final

from ..close import MAX_REASON_BYTES, CloseCode
from .masking import mask

__all__ = [
    "FIN_BINARY",
    "FIN_TEXT",
    "RSV1",
    "SHORT",
    "SHORT_BINARY",
    "SHORT_TEXT",
    "FrameBounds",
    "PlainFrame",
    "close_frame",
    "data_header",
    "ping_frame",
    "plain_close_at",
    "plain_frame_at",
    "plain_ping_or_pong_at",
    "pong_frame",
]

#: The first byte of a whole message in one frame, without extensions.
FIN_TEXT: Final = 0x81
FIN_BINARY: Final = 0x82
#: Of the first byte: the message is compressed (RFC 7692 section 6).
RSV1: Final = 0x40
_FIN_CLOSE: Final = 0x88
_FIN_PING: Final = 0x89
_FIN_PONG: Final = 0x8A
_MASKED: Final = 0x80
#: The largest payload whose size stands in the second byte of a frame.
SHORT: Final = 125

#: The largest number of parts of a payload that are kept apart.
_MAX_PARTS = 1024

_NORMAL_CODES = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)

_UINT16 = Struct("!H")
_UINT64 = Struct("!Q")
_HEADER16 = Struct("!BBH")
_HEADER64 = Struct("!BBQ")
#: The headers of short messages that are not masked, by their sizes.
SHORT_TEXT = [bytes((FIN_TEXT, size)) for size in range(SHORT + 1)]
SHORT_BINARY = [bytes((FIN_BINARY, size)) for size in range(SHORT + 1)]


def data_header(size: int, *, text: bool, key: bytes = b"", compressed: bool = False) -> bytes:
    """The header of a whole message in one frame, masked with ``key`` if there is one."""
    first = FIN_TEXT if text else FIN_BINARY
    if compressed:
        first |= RSV1
    masked = _MASKED if key else 0
    if size <= SHORT:
        return bytes((first, masked | size)) + key
    if size < 65536:
        return _HEADER16.pack(first, masked | 126, size) + key
    return _HEADER64.pack(first, masked | 127, size) + key


class FrameBounds:
    """Finds the ends of the frames that wsproto parses.

    wsproto must get no byte behind the end of its frame, because the next frame may be a plain
    one.
    """

    __slots__ = ("_header", "_payload", "at_start")

    def __init__(self) -> None:
        self._header = b""
        # Bytes of the payload that are still to come; None until the header is whole.
        self._payload: int | None = None
        #: Whether the next byte begins a frame.
        self.at_start = True

    def take(self, data: bytes, start: int) -> bytes:
        """The bytes of the current frame from ``start`` on, as far as they have arrived."""
        end = start
        self.at_start = False
        if self._payload is None:
            wanted = self._header_size()
            while len(self._header) < wanted and end < len(data):
                step = min(wanted - len(self._header), len(data) - end)
                self._header += data[end : end + step]
                end += step
                wanted = self._header_size()
            if len(self._header) < wanted:
                return data[start:end]
            self._payload = self._payload_size()
        step = min(self._payload, len(data) - end)
        end += step
        self._payload -= step
        if not self._payload:
            self._header, self._payload = b"", None
            self.at_start = True
        return data[start:end]

    def _header_size(self) -> int:
        """The size of the header, as far as its bytes so far tell (RFC 6455 section 5.2)."""
        if len(self._header) < 2:
            return 2
        size = self._header[1] & 0x7F
        return 2 + (2 if size == 126 else 8 if size == 127 else 0) + (self._header[1] >> 7) * 4

    def _payload_size(self) -> int:
        size = self._header[1] & 0x7F
        if size == 126:
            return int.from_bytes(self._header[2:4], "big")
        if size == 127:
            return int.from_bytes(self._header[2:10], "big")
        return size


class PlainFrame:
    """A whole message in one frame, while its payload arrives.

    ``key`` is empty if the payload is not masked. Text is decoded as it arrives: invalid UTF-8 is
    noticed at once, and not at the end of a megabyte (RFC 6455 section 8.1).
    """

    __slots__ = ("_binary", "_decode", "_key", "_text", "expected_bytes", "kept_size")

    def __init__(self, *, text: bool, size: int, key: bytes) -> None:
        #: Bytes of the payload that are still to come.
        self.expected_bytes = size
        #: Bytes of the payload that are kept here.
        self.kept_size = 0
        self._key = key
        self._decode = codecs.getincrementaldecoder("utf-8")().decode if text else None
        self._text: list[str] = []
        self._binary: list[bytes] = []

    def take(self, data: bytes | memoryview) -> str | bytes | None:
        """Take the next bytes, at most ``expected_bytes``; return the message once it is whole.

        Raises ``UnicodeDecodeError`` as soon as the text cannot be UTF-8.
        """
        self.expected_bytes -= len(data)
        self.kept_size += len(data)
        part = mask(data, self._key) if self._key else bytes(data)
        # The next byte is masked with the next byte of the key.
        turn = len(data) % 4
        if turn:
            self._key = self._key[turn:] + self._key[:turn]
        if self._decode is None:
            self._binary.append(part)
            if self.expected_bytes and len(self._binary) < _MAX_PARTS:
                return None
            # The parts are joined at the end, and now and then before: a megabyte that arrives
            # byte by byte takes a megabyte of memory.
            self._binary = [b"".join(self._binary)]
            return None if self.expected_bytes else self._binary[0]
        self._text.append(self._decode(part, not self.expected_bytes))
        if self.expected_bytes and len(self._text) < _MAX_PARTS:
            return None
        self._text = ["".join(self._text)]
        return None if self.expected_bytes else self._text[0]

    def take_kept(self) -> str | bytes:
        """Remove and return what is kept; ``take()`` returns the rest of the message."""
        self.kept_size = 0
        if self._decode is None:
            binary, self._binary = b"".join(self._binary), []
            return binary
        text, self._text = "".join(self._text), []
        return text


def plain_frame_at(
    data: bytes, start: int, *, masked: bool = True, compressed: bool = False
) -> tuple[int, int] | None:
    """The offset and the size of the payload of the plain frame at ``start``.

    ``compressed`` says that the frame of a compressed message is a plain one, too.

    If the header has not arrived whole, the offset lies behind the end of ``data`` and the size
    has no meaning. Returns None for every other frame: another kind, a frame that is not masked as
    the peer must mask, or a frame with a fault in its header.
    """
    first = data[start] & ~RSV1 if compressed else data[start]
    if first not in (FIN_TEXT, FIN_BINARY):
        return None
    if len(data) - start < 2:
        return start + 2, 0
    size = data[start + 1]
    key = 0
    if masked:
        size -= _MASKED
        key = 4
    if size < 126:
        return (start + 2 + key, size) if size >= 0 else None
    if size > 127:
        return None  # a server has masked it
    payload = start + key + (4 if size == 126 else 10)
    if payload - key <= len(data):
        # The shortest way to write the size is the only valid one.
        if size == 126:
            (size,) = _UINT16.unpack_from(data, start + 2)
            return (payload, size) if size > 125 else None
        (size,) = _UINT64.unpack_from(data, start + 2)
        return (payload, size) if 65535 < size < 1 << 63 else None
    return payload, 0


def plain_close_at(data: bytes, start: int, *, masked: bool = True) -> tuple[int, str] | None:
    """The code and the reason of the Close at ``start``, if it has arrived whole and has the code
    of a normal end. Returns None for every other Close, and for every other frame."""
    payload = start + (6 if masked else 2)
    if data[start] != _FIN_CLOSE or len(data) < payload:
        return None
    size = data[start + 1] - (_MASKED if masked else 0)
    end = payload + size
    if not 2 <= size <= SHORT or len(data) < end:
        return None
    content = data[payload:end]
    if masked:
        content = mask(content, data[payload - 4 : payload])
    code = int.from_bytes(content[:2], "big")
    if code not in _NORMAL_CODES:
        return None
    try:
        return code, content[2:].decode()
    except UnicodeDecodeError:
        return None


def plain_ping_or_pong_at(
    data: bytes, start: int, *, masked: bool = True
) -> tuple[bool, bytes, int] | None:
    """The Ping or Pong at ``start``, if it has arrived whole: whether it is a Ping, its payload,
    and where it ends. Returns None for every other frame."""
    first = data[start]
    payload = start + (6 if masked else 2)
    if first not in (_FIN_PING, _FIN_PONG) or len(data) < payload:
        return None
    size = data[start + 1] - (_MASKED if masked else 0)
    end = payload + size
    if not 0 <= size <= SHORT or len(data) < end:
        return None
    content = data[payload:end]
    if masked:
        content = mask(content, data[payload - 4 : payload])
    return first == _FIN_PING, content, end


def close_frame(code: int, reason: str) -> bytes | None:
    """A Close with a code of a normal end, not masked. Returns None for every other Close."""
    payload = reason.encode()
    if code not in _NORMAL_CODES or len(payload) > MAX_REASON_BYTES:
        return None
    return bytes((_FIN_CLOSE, 2 + len(payload))) + code.to_bytes(2, "big") + payload


def ping_frame(payload: bytes) -> bytes:
    """A Ping of at most 125 bytes, not masked."""
    return bytes((_FIN_PING, len(payload))) + payload


def pong_frame(payload: bytes) -> bytes:
    """A Pong of at most 125 bytes, not masked."""
    return bytes((_FIN_PONG, len(payload))) + payload
