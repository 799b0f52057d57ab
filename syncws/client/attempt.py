"""An attempt to open a session: how long it may take, and how another thread ends it early.

No step of an opening can be interrupted as such. ``cancel()`` shuts down the socket that the
opening thread waits on, and every later step finds that no time is left.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import Future

from ..system.deadline import Deadline

__all__ = ["Attempt"]

#: Python counts the milliseconds of a socket's timeout in 31 bits; 11 days are below that.
_MAX_SOCKET_TIMEOUT = 1_000_000.0


class Attempt:
    """One attempt. One thread uses it; any thread may call ``cancel()``.

    Raises ``ValueError`` if ``seconds`` is NaN.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = Deadline(seconds)
        # Guards the socket, and whether the attempt is cancelled. The socket is closed while it
        # is held, so that cancel() never shuts down another file with the same number. Reentrant,
        # because a signal handler may cancel in the thread that holds it.
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        #: Resolved by ``cancel()``.
        self.cancelled: Future[None] = Future()

    @property
    def left(self) -> float:
        """Seconds to go; 0 after ``cancel()``."""
        return 0.0 if self.cancelled.done() else self._deadline.left

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left <= 0

    def limit(self, sock: socket.socket, share: Deadline | None = None) -> None:
        """Let the socket's next call wait until the deadline, or the one of a share of the time.

        Raises ``TimeoutError`` if no time is left. After this, ``cancel()`` ends a call of the
        socket.
        """
        with self._lock:
            self._socket = sock
            left = self.left if share is None else min(self.left, share.left)
        if left <= 0:
            raise TimeoutError("the time is over")
        sock.settimeout(min(left, _MAX_SOCKET_TIMEOUT))

    def close(self, sock: socket.socket) -> None:
        """Close a socket of this attempt."""
        with self._lock:
            sock.close()

    def finish(self) -> None:
        """The session is open: its socket is its own."""
        with self._lock:
            self._socket = None

    def cancel(self) -> None:
        """Let the attempt fail now. Does nothing once it has succeeded."""
        with self._lock:
            if not self.cancelled.done():
                self.cancelled.set_result(None)
            if self._socket is not None:
                # The method of the plain socket: ssl.SSLSocket.shutdown() would remove the TLS
                # object while the opening thread uses it.
                with contextlib.suppress(OSError):  # it is not connected, or closed already
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
