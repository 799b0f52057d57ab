"""Reading the heads of requests, so that no slow peer holds a thread of the HTTP pool.

gunicorn reads a head in a pool thread, which waits for the peer. As many silent peers as
there are threads would stop HTTP. So a pool thread lets gunicorn's own parser have only
the bytes that have arrived (``parse_arrived()``). If the parser asks for more, the bytes
go back, and a thread outside the pool reads the head again, waiting, within one deadline
(``SlowHeads``). The parser itself decides when a head is complete: its answer is right
with every setting, with the PROXY protocol, and with every parser that gunicorn has.

A TLS handshake, and the search for the preface of cleartext HTTP/2, wait for the peer in
gunicorn's own code. The first head of such a connection is always read outside the pool.
"""

from __future__ import annotations

import contextlib
import io
import select
import socket
import ssl
import threading
from enum import Enum
from time import monotonic
from typing import Any

from gunicorn.http2 import negotiation

from ..system.scheduler import SCHEDULER
from ..upgrade.http_times import HEAD_TIMEOUT

__all__ = ["Arrived", "ParsedHead", "SlowHeads", "parse_arrived"]

#: Seconds that a pool thread waits for the first byte of a new connection before the main
#: thread waits instead. Most requests arrive right behind their connections.
FIRST_BYTE = 0.005

#: Bytes of one read. As in gunicorn.
READ_SIZE = 8 * 1024


class Arrived(Enum):
    """How much of a request's head has arrived."""

    #: All of it, or an end of the connection: ``conn.parser`` is a ``ParsedHead``.
    WHOLE = "whole"
    #: A part, or nobody can tell.
    PART = "part"
    NOTHING = "nothing"


class ParsedHead:
    """Stands in for gunicorn's parser. It gives one head, parsed already, or raises what
    the parser raised, and then restores the real parser."""

    def __init__(self, conn: Any, outcome: Any) -> None:
        self._conn = conn
        self._outcome = outcome
        self._parser = conn.parser

    @property
    def error(self) -> Exception | None:
        """What the parser, or a read from the socket, raised."""
        return self._outcome if isinstance(self._outcome, Exception) else None

    def __next__(self) -> Any:
        self._conn.parser = self._parser
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class _NotArrivedError(Exception):
    """The parser asks for bytes that have not arrived."""


def parse_arrived(conn: Any) -> Arrived:
    """Let gunicorn parse the next head of its connection ``conn``, without waiting for the
    peer. Errors in the head are raised later, where gunicorn handles them."""
    if conn.initialized:
        return _parse(conn)
    if conn.cfg.is_ssl or negotiation.prior_knowledge_allowed(conn.cfg, conn.client):
        return Arrived.PART if _is_readable(conn.sock, FIRST_BYTE) else Arrived.NOTHING
    conn.init()
    arrived = _parse(conn)
    if arrived is Arrived.NOTHING and _is_readable(conn.sock, FIRST_BYTE):
        arrived = _parse(conn)
    return arrived


def _parse(conn: Any) -> Arrived:
    parser = conn.parser
    unreader = parser.unreader
    # What is needed to begin again.
    buffered = unreader.buf.getvalue()
    count, message = parser.req_count, parser.mesg
    received = bytearray()

    def receive(size_hint: int | None = None) -> bytes:
        data = _receive_arrived(conn.sock)
        received.extend(data)
        return data

    unreader.chunk = receive
    try:
        # next() would be a call in C, and the parser needs much of the stack, which then belongs to
        # a session's thread.
        outcome = parser.__next__()
    except _NotArrivedError:
        parser.req_count, parser.mesg = count, message
        unreader.buf = io.BytesIO()
        unreader.buf.write(buffered)
        unreader.buf.write(received)
        # A TLS record may have arrived in part. It counts, or its peer would have the
        # whole time again with each byte.
        part = buffered or received or isinstance(conn.sock, ssl.SSLSocket)
        return Arrived.PART if part else Arrived.NOTHING
    except Exception as exc:  # noqa: BLE001  # raised again where gunicorn handles it
        outcome = exc
    finally:
        del unreader.chunk  # the class has the method
    conn.parser = ParsedHead(conn, outcome)
    return Arrived.WHOLE


def _receive_arrived(sock: socket.socket) -> bytes:
    """Read what has arrived. Raises ``_NotArrivedError`` if nothing has."""
    try:
        if not isinstance(sock, ssl.SSLSocket):
            return sock.recv(READ_SIZE, socket.MSG_DONTWAIT)
        sock.setblocking(False)
        try:
            return sock.recv(READ_SIZE)
        finally:
            sock.setblocking(True)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise _NotArrivedError from None


def _is_readable(sock: socket.socket, timeout: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


class SlowHeads:
    """The heads that threads outside the pool wait for. Every method may be called from
    any thread."""

    def __init__(self) -> None:
        # Guards the two below; held for a few instructions.
        self._lock = threading.Lock()
        self._deadlines: set[_Deadline] = set()
        # Seconds that a head may still take when the worker stops; None before. Set under
        # the lock: every deadline in the set is shortened, and later ones ask due().
        self._stop_timeout: float | None = None

    def due(self, timeout: float | None = None) -> float:
        """The moment (monotonic) by which a head that begins now must be complete."""
        timeout = HEAD_TIMEOUT if timeout is None else timeout
        return monotonic() + (
            timeout if self._stop_timeout is None else min(timeout, self._stop_timeout)
        )

    def read(self, conn: Any, timeout: float | None = None) -> None:
        """Wait for a request's head for at most ``timeout`` seconds (None:
        ``HEAD_TIMEOUT``). ``conn.parser`` is a ``ParsedHead`` afterwards, or the
        connection speaks HTTP/2.

        Raises ``RuntimeError`` if the system has no thread left for the deadline.
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
            outcome = next(conn.parser)
        except Exception as exc:  # noqa: BLE001  # raised again where gunicorn handles it
            outcome = exc
        finally:
            with self._lock:
                self._deadlines.remove(deadline)
            SCHEDULER.leave(deadline)
        conn.parser = ParsedHead(conn, outcome)

    def stop(self, timeout: float) -> None:
        """The worker stops. Every head has at most ``timeout`` more seconds."""
        with self._lock:
            self._stop_timeout = timeout
            for deadline in self._deadlines:
                SCHEDULER.schedule(deadline, monotonic() + timeout)


class _Deadline:
    """Ends a connection whose head is late. The read that waits for the head gets an end of
    file."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def on_time(self, now: float) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._conn.sock, socket.SHUT_RDWR)
