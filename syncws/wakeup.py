"""Waking the ping thread of a session, wherever it waits."""

from __future__ import annotations

import contextlib
import os
import threading

__all__ = ["Wakeup"]


class Wakeup:
    """What the ping thread waits for besides the clock and its socket.

    ``set()`` is for any thread; everything else is for the ping thread alone.
    Whoever changes something that the ping thread should look at changes it
    first and calls ``set()`` then; the ping thread calls ``clear()`` first and
    looks then. So no change goes unseen.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        # Guards _fds against set() in one thread and close() in another.
        self._lock = threading.Lock()
        self._fds: tuple[int, int] | None = None

    def set(self) -> None:
        self._event.set()
        with self._lock:
            if self._fds is not None:
                with contextlib.suppress(BlockingIOError):  # full of wake-ups already
                    os.write(self._fds[1], b"\x00")

    def wait(self, timeout: float | None) -> None:
        """Sleep until woken, for ``timeout`` seconds at most."""
        self._event.wait(timeout)

    def clear(self) -> None:
        self._event.clear()
        if self._fds is not None:
            with contextlib.suppress(BlockingIOError):  # empty
                os.read(self._fds[0], 4096)

    def fileno(self) -> int | None:
        """What to poll beside the socket; None when no descriptor is to be had.

        Made when first needed: most sessions spend their lives in
        ``receive()``, and their ping threads never poll.
        """
        with self._lock:
            if self._fds is None:
                try:
                    self._fds = os.pipe()
                except OSError:
                    return None
                for fd in self._fds:
                    os.set_blocking(fd, False)
                if self._event.is_set():
                    os.write(self._fds[1], b"\x00")
            return self._fds[0]

    def close(self) -> None:
        with self._lock:
            for fd in self._fds or ():
                os.close(fd)
            self._fds = None
