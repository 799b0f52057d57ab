"""Telling whoever looks after a session that there is something to look at."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

__all__ = ["Wakeup"]


class Wakeup:
    """What the ping thread waits for besides the clock and its socket.

    ``set()`` is for any thread; everything else is for who has the pinger's
    turn. Whoever changes something that should be looked at changes it first
    and calls ``set()`` then; who looks calls ``clear()`` first and looks then.
    So no change goes unseen.
    """

    def __init__(self) -> None:
        self.is_set = False
        #: Called by ``set()`` when no thread waits at ``fileno()``.
        self.call: Callable[[], None] | None = None
        # Guards _fds against set() in one thread and close() in another.
        self._lock = threading.Lock()
        self._fds: tuple[int, int] | None = None

    def set(self) -> None:
        self.is_set = True
        with self._lock:
            if self._fds is not None:
                with contextlib.suppress(BlockingIOError):  # full of wake-ups already
                    os.write(self._fds[1], b"\x00")
                return
        if self.call is not None:
            self.call()

    def clear(self) -> None:
        self.is_set = False
        if self._fds is not None:
            with contextlib.suppress(BlockingIOError):  # empty
                os.read(self._fds[0], 4096)

    def fileno(self) -> int | None:
        """What to poll; None when no descriptor is to be had.

        Made when first needed: most sessions spend their lives in
        ``receive()``, and have no thread that polls.
        """
        with self._lock:
            if self._fds is None:
                try:
                    self._fds = os.pipe()
                except OSError:
                    return None
                for fd in self._fds:
                    os.set_blocking(fd, False)
                if self.is_set:
                    os.write(self._fds[1], b"\x00")
            return self._fds[0]

    def close(self) -> None:
        """Nobody waits at ``fileno()`` any more."""
        with self._lock:
            for fd in self._fds or ():
                os.close(fd)
            self._fds = None
