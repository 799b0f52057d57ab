"""How long one call waits for a peer to read."""

from __future__ import annotations

from typing import Protocol

from .deadline import Deadline

__all__ = ["Patience"]

#: How often progress is looked for within the time. A peer that stops reading is given up after
#: the time, and a quarter of it at most.
_LOOKS = 4


class Sender(Protocol):
    """The part of a transport that tells whether the peer reads."""

    def progress(self) -> int: ...


class Patience:
    """``timeout`` seconds for the whole call; or, if it is ``renewed``, for each time in which the
    peer reads nothing.

    When the peer reads, its system acknowledges bytes. So a peer that reads slowly but steadily is
    not given up, however large a message is. For one call, in one thread.
    """

    def __init__(self, sender: Sender, timeout: float, *, renewed: bool) -> None:
        self._sender = sender
        self._timeout = timeout
        self._renewed = renewed
        self._deadline = Deadline(timeout)
        self._seen = sender.progress() if renewed else 0

    @property
    def left(self) -> float:
        """Seconds to wait before ``is_over()`` has to be asked."""
        left = self._deadline.left
        return min(left, self._timeout / _LOOKS) if self._renewed else left

    def is_over(self) -> bool:
        """Whether the time has passed. Renews it if the peer has read in the meantime."""
        if self._renewed:
            seen = self._sender.progress()
            if seen != self._seen:
                self._seen = seen
                self._deadline = Deadline(self._timeout)
                return False
        return self._deadline.passed
