"""The queue of messages that were read before the handler asked for them, and its limits.

Pure: no I/O, no threads of its own, no clock.
"""

from __future__ import annotations

from collections import deque

from ..protocol.events import Part

__all__ = ["MAX_UNFINISHED_BYTES", "ReadAhead"]

#: How much is read ahead while the handler is not in receive(). Beyond these limits reading
#: stops, and TCP holds the peer back. The last read may exceed them.
MAX_QUEUED_MESSAGES = 256
MAX_QUEUED_BYTES = 256 * 1024

#: How much of an unfinished message is read while the handler is not in receive(), to tell a peer
#: that is silent in the middle of it from one that is held back. ``max_message_size`` may be more
#: than fits into memory, for messages that are read as streams.
MAX_UNFINISHED_BYTES = 16 * 1024 * 1024

# The queue of every session that has read nothing ahead. Nothing is ever put in. An empty deque
# takes 0.7 KiB.
_NOTHING: deque[str | bytes | Part] = deque()


class ReadAhead:
    """Messages and parts of messages, in order. At any time, at most one thread calls ``put()``
    and at most one calls ``take()``."""

    __slots__ = ("_bytes_put", "_bytes_taken", "messages")

    def __init__(self) -> None:
        #: The oldest first. Any thread may see whether there are any. The first ``put()`` makes
        #: the queue.
        self.messages = _NOTHING
        # There are two counters, so that only one thread at a time writes to each.
        self._bytes_put = 0
        self._bytes_taken = 0

    def put(self, message: str | bytes | Part) -> None:
        if self.messages is _NOTHING:
            self.messages = deque()
        self.messages.append(message)
        self._bytes_put += len(message)

    def take(self) -> str | bytes | Part:
        message = self.messages.popleft()
        self._bytes_taken += len(message)
        return message

    @property
    def size(self) -> int:
        """How many bytes or characters the queue holds."""
        return self._bytes_put - self._bytes_taken

    def is_full(self, held: int) -> bool:
        """Whether the queue has no room for more. ``held`` is the number of bytes of a message that
        is still arriving. They count, because the handler may read that message as a stream."""
        return len(self.messages) >= MAX_QUEUED_MESSAGES or self.size + held >= MAX_QUEUED_BYTES
