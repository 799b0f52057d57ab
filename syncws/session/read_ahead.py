"""What was read ahead of the handler, and how much that may be.

Pure: no I/O, no threads of its own, no clock.
"""

from __future__ import annotations

from collections import deque

from ..protocol.events import Part

__all__ = ["ReadAhead"]

#: What is read ahead for a handler that is elsewhere, at most (and what one read
#: brings beyond). Then reading stops, and TCP holds the peer back.
MAX_QUEUED_MESSAGES = 256
MAX_QUEUED_BYTES = 256 * 1024


class ReadAhead(deque["str | bytes | Part"]):
    """Messages, and parts of them, in order. One thread at a time puts them in,
    and one takes them out."""

    def __init__(self) -> None:
        super().__init__()
        # Two counters, so that each is written by one thread at a time.
        self._bytes_put = 0
        self._bytes_taken = 0

    def put(self, message: str | bytes | Part) -> None:
        self.append(message)
        self._bytes_put += len(message)

    def take(self) -> str | bytes | Part:
        message = self.popleft()
        self._bytes_taken += len(message)
        return message

    @property
    def size(self) -> int:
        """Bytes, or characters, of all of them."""
        return self._bytes_put - self._bytes_taken

    def is_full(self, held: int) -> bool:
        """Whether there is no room for more. ``held`` are bytes of a message that
        is still arriving: they count, since the handler may want to read it as
        a stream."""
        return len(self) >= MAX_QUEUED_MESSAGES or self.size + held >= MAX_QUEUED_BYTES
