"""Connections that the worker closes after an HTTP response: the peer reads it first.

If a socket is closed while something in it is unread, TCP resets the connection and the peer
may lose the end of the response. So the worker first closes its sending side, and closes
the connection when the peer has closed, or after a while (RFC 9112 section 9.6). gunicorn
waits for each peer on its main thread, up to two seconds, and does nothing else meanwhile.
After a few dozen slow peers the arbiter would take the worker for hung and kill it with all
of its sessions.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from ..upgrade.http_times import LINGER

__all__ = ["Lingering"]

#: Bytes that are thrown away while the connection waits for its peer to close. As in gunicorn.
MAX_DRAINED = 64 * 1024


class Lingering:
    """The connections that are being closed. ``closed`` is called after each. For the main
    thread."""

    def __init__(self, closed: Callable[[], None]) -> None:
        self._closed = closed
        # Connections whose peers have not closed yet, with their deadlines (monotonic).
        # Every connection has the same time, so the first one is due first.
        self._waiting: dict[Any, float] = {}

    def close(self, conn: Any, poller: Any) -> None:
        """Close gunicorn's connection ``conn``: now if its peer has closed, else when it does."""
        drain = partial(self._drain, conn, poller, [MAX_DRAINED])
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            poller.register(conn.sock, selectors.EVENT_READ, drain)
        except (OSError, ValueError):  # the peer has gone, or the socket is closed
            conn.close()
            self._closed()
        else:
            self._waiting[conn] = monotonic() + LINGER

    def wait_at_most(self, timeout: float | None) -> float | None:
        """Seconds until the first connection is due, at most ``timeout`` (None: no limit)."""
        for due in self._waiting.values():
            left = max(0.0, due - monotonic())
            return left if timeout is None else min(timeout, left)
        return timeout

    def expire(self, poller: Any) -> None:
        """Close the connections that are due."""
        now = monotonic()
        while self._waiting:
            conn = next(iter(self._waiting))
            if self._waiting[conn] > now:
                return
            self._finish(conn, poller)

    def _drain(self, conn: Any, poller: Any, left: list[int], _: Any) -> None:
        try:
            data = conn.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        left[0] -= len(data)
        if not data or left[0] <= 0:
            self._finish(conn, poller)

    def _finish(self, conn: Any, poller: Any) -> None:
        del self._waiting[conn]
        poller.unregister(conn.sock)
        conn.close()
        self._closed()
