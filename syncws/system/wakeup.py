"""A flag with a file descriptor: tells the thread that attends to a session of a change."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

__all__ = ["Wakeup"]

#: What an eventfd takes: the number 1, in eight bytes. For a pipe it is as good as any.
_SIGNAL = (1).to_bytes(8, sys.byteorder)


def _open() -> tuple[int, int]:
    """An eventfd, which is one descriptor (Linux), or else a pipe."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return fd, fd
    fds = os.pipe()
    for fd in fds:
        os.set_blocking(fd, False)
    return fds


class Wakeup:
    """A signal that wakes a thread while it waits in ``poll()``.

    Any thread may call ``set()``. Only the thread that waits may call the other methods: a ping
    thread, which holds the attending lock of its session, or a writer over TLS. To signal a
    change: change it, then ``set()``. To observe: ``clear()``, then look. This order loses no
    change.
    """

    __slots__ = ("_fds", "_lock", "call", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        #: ``set()`` calls this when no thread waits at ``fileno()``. None if nobody attends.
        self.call: Callable[[], None] | None = None
        # Guards _fds against set() in one thread and close() in another. Reentrant, since a
        # signal handler may call set() in the thread that it has interrupted here.
        self._lock = threading.RLock()
        # To read from and to write to: the same one, or the two ends of a pipe.
        self._fds: tuple[int, int] | None = None

    def set(self) -> None:
        self.is_set = True
        with self._lock:
            if self._fds is not None:
                with contextlib.suppress(BlockingIOError):  # full of wake-ups already
                    os.write(self._fds[1], _SIGNAL)
                return
        call = self.call  # another thread may remove it
        if call is not None:
            call()

    def clear(self) -> None:
        self.is_set = False
        if self._fds is not None:
            with contextlib.suppress(BlockingIOError):  # empty
                os.read(self._fds[0], 4096)

    def fileno(self) -> int | None:
        """The descriptor to poll; None when the system has no descriptor left.

        It is made when it is first needed: most sessions spend their lives in ``receive()`` and
        have no thread that polls.
        """
        with self._lock:
            if self._fds is None:
                try:
                    self._fds = _open()
                except OSError:
                    return None
                if self.is_set:
                    os.write(self._fds[1], _SIGNAL)
            return self._fds[0]

    def close(self) -> None:
        """Close the descriptor; no thread may be waiting at it."""
        with self._lock:
            for fd in set(self._fds or ()):
                os.close(fd)
            self._fds = None
