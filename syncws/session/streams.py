"""Messages as files: they can be read while they arrive, and sent while they are produced."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from ..protocol.events import Part
from ..protocol.outbound import Data
from ..protocol.prepared import PreparedMessage

if TYPE_CHECKING:
    from ..base import BaseSession
    from .reader import Reader

__all__ = ["Sendable", "as_binary", "parts_of", "receive_stream"]

#: A message, or a source of its parts.
Sendable = Data | PreparedMessage | Iterable[Data] | IO[str] | IO[bytes]

#: How many bytes or characters of a file are sent in one frame.
CHUNK = 64 * 1024


def receive_stream(
    session: BaseSession, reader: Reader, timeout: float | None
) -> BinaryIO | TextIO:
    """Return the next message of ``session`` as a file; see ``Session.receive_stream()``."""
    raw = _MessageFile(session, reader, timeout)
    first = reader.begin_stream(raw, timeout)
    if isinstance(first, Part) and first.finished:
        first = first.data
    if isinstance(first, str):
        return io.StringIO(first, newline="")
    if isinstance(first, bytes):
        return io.BytesIO(first)
    raw.put(first)
    # newline="" below leaves the line ends of the message as they are.
    binary = io.BufferedReader(raw)
    if isinstance(first.data, bytes):
        return cast(BinaryIO, binary)
    return io.TextIOWrapper(binary, encoding="utf-8", newline="")


class _MessageFile(io.RawIOBase):
    """The bytes of a message. The next part is received when the previous one has been read."""

    def __init__(self, session: BaseSession, reader: Reader, timeout: float | None) -> None:
        self._session = session  # kept: the reader's exceptions have it
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
    """A view of any other bytes-like object, such as an array. Returns None for other objects."""
    if hasattr(data, "read"):
        return None  # a file, mapped into memory
    try:
        return memoryview(data)
    except TypeError:
        return None


def parts_of(data: Any) -> Iterable[Data]:
    """The fragments of a message that a file or an iterable provides.

    Raises ``TypeError`` for any other object.
    """
    read = getattr(data, "read", None)
    if isinstance(data, io.BufferedIOBase) and type(data).read1 is not io.BufferedIOBase.read1:
        # read1() returns the data that is already there. On a pipe, or on a message that is being
        # received, read() would wait for a full chunk.
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
    yield chunk  # An empty file is an empty message.
    while chunk:
        chunk = read(CHUNK)
        if chunk:
            yield chunk
