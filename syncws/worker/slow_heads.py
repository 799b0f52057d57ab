"""Request heads that take their time, under the gunicorn worker.

gunicorn reads a request's head in a pool thread. A peer that falls silent
before the end of one would keep that thread: as many such peers as there are
threads would stop HTTP. So the main thread waits for the first byte, in its
poll(); and a head that has not come whole then is read by a thread that has
stepped out of the pool, within a deadline for all of it. So is every head that
comes over TLS, which cannot be looked at without being read, and whose
handshake may stall too.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import threading
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Any

from ..system.scheduler import SCHEDULER
from ..upgrade.http_times import HEAD_TIMEOUT

__all__ = ["Head", "SlowHeads", "look_at_head"]

#: Seconds that a pool thread waits for the first byte of a head before it leaves
#: that to the main thread. Most requests come right behind their connections.
FIRST_BYTE = 0.005

#: Bytes that most heads do not have; what gunicorn reads at once.
_USUAL = 8 * 1024
#: More than gunicorn takes for a head, with its defaults: it says so itself.
_ENOUGH = 64 * 1024


class Head(Enum):
    """How much of a request's head is there."""

    #: gunicorn can parse it without waiting for the peer.
    WHOLE = "whole"
    #: A part, or nobody can tell.
    PART = "part"
    NOTHING = "nothing"


def look_at_head(conn: Any, *, tls: bool) -> Head:
    """How much of a request's head has come on ``conn``."""
    if isinstance(conn.parser, _Read) or conn.is_http2:
        return Head.WHOLE
    if conn.parser is not None:
        return Head.PART if tls else _take_head(conn)
    seen = _peek(conn.sock)
    if seen is None and _wait(conn.sock):
        seen = _peek(conn.sock)
    if seen is None:
        return Head.NOTHING
    conn.data_ready = True  # gunicorn need not wait for it
    # The end of the stream, too, is gunicorn's to deal with.
    return Head.WHOLE if not seen or (not tls and _is_whole(seen)) else Head.PART


def _take_head(conn: Any) -> Head:
    """The same for a connection that is kept alive: what has come is put where
    gunicorn finds it, so that it is not read twice."""
    buffer: io.BytesIO = conn.parser.unreader.buf
    buffer.seek(0, io.SEEK_END)
    while not _is_whole(buffer.getvalue()):
        try:
            taken = conn.sock.recv(_USUAL, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return Head.PART if buffer.tell() else Head.NOTHING
        except OSError:
            break  # which gunicorn finds out
        if not taken:
            break
        buffer.write(taken)
    return Head.WHOLE


def _is_whole(head: bytes) -> bool:
    return b"\r\n\r\n" in head or len(head) >= _ENOUGH


class SlowHeads:
    """The heads that a worker waits for outside of its pool. For any thread."""

    def __init__(self) -> None:
        # Guards the two below; held for a few instructions.
        self._lock = threading.Lock()
        self._deadlines: set[_Deadline] = set()
        # Once the worker stops. Set under the lock, so that no deadline that is
        # there misses it; one that is about to be added is told by due().
        self._hurry: float | None = None

    def due(self, timeout: float | None = None) -> float:
        """The moment (monotonic) until which a head that begins now may take."""
        timeout = HEAD_TIMEOUT if timeout is None else timeout
        return monotonic() + (timeout if self._hurry is None else min(timeout, self._hurry))

    def read(self, conn: Any, timeout: float | None = None) -> None:
        """Wait for a request's head, and have ``conn`` give it when it is asked for one.

        For ``timeout`` seconds at most (None: ``HEAD_TIMEOUT``). Whatever is
        wrong with the head comes to light when it is asked for, in gunicorn's
        own code. Raises ``RuntimeError`` when the system has no thread left.
        """
        deadline = _Deadline(conn)
        SCHEDULER.enter(deadline)
        with self._lock:
            self._deadlines.add(deadline)
            SCHEDULER.schedule(deadline, self.due(timeout))
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
            with self._lock:
                self._deadlines.remove(deadline)
            SCHEDULER.leave(deadline)

    def hurry(self, timeout: float) -> None:
        """The worker stops: wait for ``timeout`` seconds more at most."""
        with self._lock:
            self._hurry = timeout
            for deadline in self._deadlines:
                SCHEDULER.schedule(deadline, monotonic() + timeout)


def _peek(sock: socket.socket) -> bytes | None:
    """What has arrived; None when nothing has."""
    try:
        seen = sock.recv(_USUAL, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if len(seen) == _USUAL:
            seen = sock.recv(_ENOUGH, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return seen
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
