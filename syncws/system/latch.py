"""A flag that is set once, and that threads wait for.

``threading.Event`` has a lock that is not reentrant. If a signal handler sets an event while the
thread that it has interrupted waits for that event, both may wait for ever. Here no step of a
wait holds what ``set()`` needs.
"""

from __future__ import annotations

import contextlib
import threading

from .deadline import Deadline

__all__ = ["LOOK_FOR_SIGNALS", "Latch"]

#: Seconds. A signal that arrives between Python's last look for signals and a wait does not end
#: that wait. So a thread that signals may end waits for so long at most, and Ctrl-C is never lost.
LOOK_FOR_SIGNALS = 0.5


class Latch:
    """Any thread may call the methods. A signal handler may call ``set()``."""

    def __init__(self) -> None:
        self._set = False
        # Locked until the latch is set. A thread that waits for the latch waits for this lock,
        # and opens it for the next one.
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Whether the latch is set."""
        return self._set

    def set(self) -> None:
        """Set the latch. Calls after the first do nothing."""
        self._set = True
        self._open()

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is open already
            self._gate.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the latch, ``timeout`` seconds at most; None is no limit. Return whether it
        is set. Signals are noticed within half a second."""
        deadline = Deadline(timeout)
        while not self._set:
            left = deadline.left
            if self._gate.acquire(timeout=min(left, LOOK_FOR_SIGNALS)):
                self._open()
            elif left <= LOOK_FOR_SIGNALS:
                break
        return self._set
