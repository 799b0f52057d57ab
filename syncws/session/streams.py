"""Messages as files: read while they arrive, sent while they are made."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from ..protocol.events import Part
from ..protocol.outbound import Data
from ..protocol.prepared import PreparedMessage

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["Sendable", "as_binary", "parts_of", "receive_stream"]

#: A message, or what it can be made of.
Sendable = Data | PreparedMessage | Iterable[Data] | IO[str] | IO[bytes]

#: Bytes, or characters, of a file that are sent in one frame.
CHUNK = 64 * 1024


def receive_stream(reader: Reader, timeout: float | None) -> BinaryIO | TextIO:
    """The next message as a file; see ``Session.receive_stream()``."""
    raw = _MessageFile(reader, timeout)
    first = reader.begin_stream(raw, timeout)
    if isinstance(first, Part) and first.finished:
        first = first.data
    if isinstance(first, str):
        return io.StringIO(first, newline="")
    if isinstance(first, bytes):
        return io.BytesIO(first)
    raw.put(first)
    # As a message has it, line ends included.
    binary = io.BufferedReader(raw)
    if isinstance(first.data, bytes):
        return cast(BinaryIO, binary)
    return io.TextIOWrapper(binary, encoding="utf-8", newline="")


class _MessageFile(io.RawIOBase):
    """The bytes of a message, each part received when the one before has been read."""

    def __init__(self, reader: Reader, timeout: float | None) -> None:
        self._reader = reader
        self._timeout = timeout
        self._rest = memoryview(b"")
        self._finished = False

    def put(self, part: Part) -> None:
        data = part.data.encode() if isinstance(part.data, str) else part.data
        self._rest = memoryview(data)
        self._finished = part.finished

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if self._finished:
                return 0
            self.put(self._reader.next_part(self, self._timeout))
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def as_binary(data: Any) -> memoryview | None:
    """What is bytes-like in any other way: an array, for one."""
    if hasattr(data, "read"):
        return None  # a file, mapped into memory
    try:
        return memoryview(data)
    except TypeError:
        return None


def parts_of(data: Any) -> Iterable[Data]:
    """The fragments of a message to be made of a file or an iterable.

    Raises ``TypeError`` for anything else.
    """
    read = getattr(data, "read", None)
    if isinstance(data, io.BufferedIOBase) and type(data).read1 is not io.BufferedIOBase.read1:
        # Of a pipe, or of a message that is being received: what is there.
        read = data.read1
    if callable(read):
        return _chunks(read)
    if isinstance(data, Iterable) and not isinstance(data, Mapping):
        return data
    raise TypeError(
        f"a message is str or bytes, a file or an iterable of them, not {type(data).__name__}; "
        "send_json() sends anything that JSON can express"
    )


def _chunks(read: Callable[[int], Any]) -> Iterator[Data]:
    chunk = read(CHUNK)
    yield chunk  # of an empty file too: it is an empty message
    while chunk:
        chunk = read(CHUNK)
        if chunk:
            yield chunk
