"""Request heads that take their time, under the gunicorn worker.

gunicorn reads a request's head in a pool thread. A peer that sends a part of
one and falls silent would keep that thread: as many such peers as there are
threads would stop HTTP. So a head that is not there when a pool thread looks
for it is read by a thread that has stepped out of the pool, within a deadline
for all of it. So is every head that comes over TLS, which cannot be looked at
without being read, and whose handshake may stall too.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

from .clock import CLOCK

__all__ = ["head_has_come", "read_head"]

#: Seconds that a pool thread waits for the first byte of a head. Most requests
#: come with their connections, and never need another thread.
FIRST_BYTE = 0.05

#: Seconds that a TLS handshake and a request's head may take. Precedent: 20 to
#: 40 in Apache.
HEAD_TIMEOUT = 20.0

#: More than gunicorn takes for a head, with its defaults: it says so itself.
_ENOUGH = 64 * 1024


def head_has_come(conn: Any, *, tls: bool) -> bool:
    """Whether gunicorn can parse a request of ``conn`` without waiting for its peer."""
    if isinstance(conn.parser, _Read) or conn.is_http2:
        return True
    if tls:
        return False
    buffered: bytes = b"" if conn.parser is None else conn.parser.unreader.buf.getvalue()
    seen = _peek(conn.sock)
    if seen is None and not buffered and _wait(conn.sock):
        seen = _peek(conn.sock)
    if seen is None:
        return b"\r\n\r\n" in buffered
    # The end of the stream, too, is gunicorn's to deal with.
    head = buffered + seen
    return not seen or b"\r\n\r\n" in head or len(head) >= _ENOUGH


def read_head(conn: Any) -> None:
    """Wait for a request's head, and have ``conn`` give it when it is asked for one.

    In a thread that has stepped out. Whatever is wrong with the head comes to
    light when it is asked for, in gunicorn's own code.
    """
    deadline = _Deadline(conn)
    CLOCK.enter()
    CLOCK.schedule(deadline, monotonic() + HEAD_TIMEOUT)
    try:
        conn.sock.setblocking(True)
        conn.init()
        if conn.is_http2:
            return
        request = next(conn.parser)
    except Exception as exc:  # noqa: BLE001  # raised where gunicorn catches it
        conn.parser = _Read(conn, _raising(exc))
    else:
        conn.parser = _Read(conn, lambda: request)
    finally:
        CLOCK.leave(deadline)


def _peek(sock: socket.socket) -> bytes | None:
    """What has arrived; None when nothing has."""
    try:
        return sock.recv(_ENOUGH, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""  # which gunicorn finds out


def _wait(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(FIRST_BYTE * 1000))


def _raising(error: Exception) -> Callable[[], Any]:
    def give() -> Any:
        raise error

    return give


class _Read:
    """A parser in place of gunicorn's, that gives what has been read already, and
    then makes way for the real one."""

    def __init__(self, conn: Any, give: Callable[[], Any]) -> None:
        self._conn = conn
        self._give = give
        self._parser = conn.parser

    def __next__(self) -> Any:
        self._conn.parser = self._parser
        return self._give()


class _Deadline:
    """Ends a connection whose head has not come in time: a read that waits for it
    gets the end of the stream."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def on_time(self, now: float) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._conn.sock, socket.SHUT_RDWR)
