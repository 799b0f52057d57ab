"""Connections of plain HTTP that the worker closes: the peer reads the answer first.

A socket that is closed with something unread in it is reset, and its peer may
lose the end of the answer. So the sending side is closed first, and the rest
when the peer has closed too, or has not for a while (RFC 9112 section 9.6).
gunicorn waits for that on its main thread, for two seconds at most, in which it
does nothing else: a few dozen clients that take their time, and the arbiter
thinks that the worker hangs, and kills it with all of its sessions.
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
    """The connections that are being closed; ``closed`` is called for each that
    is. For the main thread."""

    def __init__(self, closed: Callable[[], None]) -> None:
        self._closed = closed
        # Those whose peers have yet to close, until when (monotonic), in that order.
        self._waiting: dict[Any, float] = {}

    def close(self, conn: Any, poller: Any) -> None:
        """Close gunicorn's connection ``conn``, now or as soon as its peer has."""
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
        """Seconds until one of them is due, ``timeout`` at most (None: for ever)."""
        for due in self._waiting.values():
            left = max(0.0, due - monotonic())
            return left if timeout is None else min(timeout, left)
        return timeout

    def expire(self, poller: Any) -> None:
        """Close those whose peers have not in time."""
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
