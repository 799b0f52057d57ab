"""The only file that touches a socket: bytes in and out, with deadlines.

Two threads use a transport at once, one reading and one writing. That is why
no Python timeout is set on the socket (there is one per socket, shared by
both): reads that may wait for ever block in the system call itself, every
other wait is a ``poll()`` of its own.

A transport never closes its socket. The server that accepted it does, and a
second ``close()`` would corrupt the server's count of connections.

Errors are translated here: ``DeadlineError`` when a deadline passes,
``BrokenError`` when the connection is broken. (``OSError`` would not do: the
kernel giving up on a connection is a ``TimeoutError`` in Python.)
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import select
import socket
import ssl
import sys
import termios
import threading
from time import monotonic

__all__ = ["BrokenError", "DeadlineError", "TlsTransport", "Transport", "make_transport"]

#: Bytes asked for in one read, unless a message is known to lack more. Python
#: makes room for them before it waits: a session idle in receive() holds so
#: much, which with LARGE_READ_SIZE made it 7 KiB larger.
READ_SIZE = 4 * 1024
#: The same after a read that brought so much: there is more to come, and what comes
#: next may be as large. With room for a message of 64 KiB and its header.
LARGE_READ_SIZE = 96 * 1024
#: Bytes asked for in one read at most: more than a socket's buffer holds.
MAX_READ_SIZE = 1024 * 1024

#: Bytes of payload from where on a copy costs more than a call with two parts.
JOIN_BELOW = 32 * 1024


#: poll() takes milliseconds in 31 bits; longer waits are made of several.
_MAX_POLL = 1_000_000.0


class DeadlineError(Exception):
    """What was asked for did not happen in time."""


class BrokenError(Exception):
    """The connection is broken; ``errno`` and the message are the system's."""

    def __init__(self, error: OSError | ValueError) -> None:
        super().__init__(getattr(error, "strerror", None) or str(error))
        self.errno = getattr(error, "errno", None)


def make_transport(sock: socket.socket) -> Transport:
    """The transport for a connected socket, with or without TLS."""
    return TlsTransport(sock) if isinstance(sock, ssl.SSLSocket) else Transport(sock)


class Transport:
    """A stream socket without TLS. Reading is for one thread at a time, so is
    writing; ``shutdown()`` and ``wait()`` are for any."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read_size = READ_SIZE
        #: Totals, for the access log; ``received`` is also the sign of life.
        self.received = 0
        self.sent = 0
        self._prepare()

    def _prepare(self) -> None:
        self._sock.settimeout(None)
        self._send_at_once()

    def _send_at_once(self) -> None:
        """A message is written whole, so waiting for more only delays it."""
        if self._sock.family != socket.AF_UNIX:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, timeout: float | None, expected: int = 0) -> bytes:
        """Wait for bytes for up to ``timeout`` seconds, for ever with None.

        ``expected`` is how many bytes are known to come. Gives ``b""`` at the end of
        the stream, after ``shutdown()`` too.
        """
        if timeout is None:
            size = self._next_size(expected)
            try:
                data = self._sock.recv(size)
            except OSError as exc:
                raise BrokenError(exc) from exc
            return self._took(data)
        deadline = monotonic() + timeout
        while True:
            if not self.wait(read=True, timeout=timeout):
                raise DeadlineError("nothing was received in time")
            data_now = self.receive_now(expected)
            if data_now is not None:
                return data_now
            timeout = max(0.0, deadline - monotonic())

    def receive_now(self, expected: int = 0) -> bytes | None:
        """What has arrived, ``b""`` at the end of the stream, None when nothing has."""
        size = self._next_size(expected)
        try:
            data = self._sock.recv(size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise BrokenError(exc) from exc
        return self._took(data)

    def _next_size(self, expected: int) -> int:
        size = self._read_size
        return size if expected <= size else min(expected, MAX_READ_SIZE)

    def _took(self, data: bytes) -> bytes:
        self.received += len(data)
        self._read_size = LARGE_READ_SIZE if len(data) >= READ_SIZE else READ_SIZE
        return data

    def send(self, head: bytes, payload: bytes | bytearray | memoryview, timeout: float) -> None:
        """Write ``head`` and ``payload``, all of it, within ``timeout`` seconds.

        Raises ``DeadlineError`` when that fails: a part may have been written.
        """
        if len(payload) < JOIN_BELOW:
            data: bytes | memoryview = head + payload
            written = self.send_now(data)
            if written == len(data):
                return
        else:
            written = self._send_both_now(head, payload)
            if written < len(head):
                head, written = head[written:] + payload, 0
                data = memoryview(head)
            else:
                data = memoryview(payload)
                written -= len(head)
        rest = memoryview(data)[written:]
        deadline = monotonic() + timeout
        while rest:
            if not self._wait_to_send(deadline - monotonic()):
                raise DeadlineError("the peer does not read")
            rest = rest[self.send_now(rest) :]

    def _send_both_now(self, head: bytes, payload: bytes | bytearray | memoryview) -> int:
        """As ``send_now()``, of two parts, without a copy of both."""
        try:
            written = self._sock.sendmsg((head, payload), (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise BrokenError(exc) from exc
        self.sent += written
        return written

    def _wait_to_send(self, timeout: float) -> bool:
        return self.wait(write=True, timeout=timeout)

    def send_now(self, data: bytes | memoryview) -> int:
        """Write as much as fits without waiting; gives the number of bytes written."""
        try:
            written = self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise BrokenError(exc) from exc
        self.sent += written
        return written

    def wait(
        self,
        *,
        read: bool = False,
        write: bool = False,
        timeout: float | None,
        wake: int | None = None,
    ) -> bool:
        """Wait until the socket can be read or written, or ``wake`` can be read.

        Gives False when ``timeout`` seconds pass first. ``shutdown()`` and a
        reset end the wait.
        """
        if timeout is not None and timeout < 0:
            return False
        poll = select.poll()
        fd = self._sock.fileno()
        if fd < 0:
            return True  # closed by the server: the next read or write says so
        if read or write:  # of a reset poll() tells whoever has registered, for ever
            poll.register(fd, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        if wake is not None:
            poll.register(wake, select.POLLIN)
        if timeout is None:
            return bool(poll.poll())
        deadline = monotonic() + timeout
        while timeout > _MAX_POLL:
            if poll.poll(_MAX_POLL * 1000):
                return True
            timeout = max(0.0, deadline - monotonic())
        # Rounded up: waking a moment too early would only mean waiting again.
        return bool(poll.poll(math.ceil(timeout * 1000)))

    def readable(self) -> bool:
        """Whether something has arrived that nobody has read yet."""
        return self.wait(read=True, timeout=0)

    def unsent(self) -> int:
        """Bytes written that the peer's system has not acknowledged; 0 if unknown."""
        try:
            answer = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def shutdown_write(self) -> None:
        """Tell the peer that nothing more will come; reading goes on."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def shutdown(self) -> None:
        """End the connection now, in both directions, and wake whoever waits on it."""
        # The plain socket's method: ssl.SSLSocket.shutdown() would take the
        # TLS object away under a thread that is using it.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


class TlsTransport(Transport):
    """A TLS socket.

    An OpenSSL object is not for two threads at once, and a read that waits
    inside it would hold up the writers. So the socket is non-blocking, each
    call into OpenSSL is made under ``_tls_lock`` and returns at once, and
    waiting happens outside of the lock.
    """

    _sock: ssl.SSLSocket

    def _prepare(self) -> None:
        self._tls_lock = threading.Lock()
        # TLS has traffic of its own (key updates, for one): what a read or a
        # write that could not go on is waiting for may be the other direction.
        self._receive_wants_write = False
        self._send_wants_read = False
        self._sock.setblocking(False)
        self._send_at_once()

    def receive(self, timeout: float | None, expected: int = 0) -> bytes:
        deadline = None if timeout is None else monotonic() + timeout
        while True:
            # Read before waiting: OpenSSL may hold bytes that the kernel no
            # longer has, and poll() knows of the kernel's only.
            data = self.receive_now(expected)
            if data is not None:
                return data
            left = None if deadline is None else max(0.0, deadline - monotonic())
            blocked = self._receive_wants_write
            if not self.wait(read=not blocked, write=blocked, timeout=left):
                raise DeadlineError("nothing was received in time")

    def receive_now(self, expected: int = 0) -> bytes | None:
        with self._tls_lock:
            self._receive_wants_write = False
            size = self._next_size(expected)
            try:
                data = self._sock.recv(size)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                self._receive_wants_write = True
                return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except (OSError, ValueError) as exc:  # ValueError: closed by the server
                raise BrokenError(exc) from exc
        return self._took(data)

    def _send_both_now(self, head: bytes, payload: bytes | bytearray | memoryview) -> int:
        return self.send_now(head + payload)  # there is no sendmsg() for TLS

    def send_now(self, data: bytes | memoryview) -> int:
        with self._tls_lock:
            self._send_wants_read = False
            try:
                written = self._sock.send(data)
            except ssl.SSLWantWriteError:
                return 0
            except ssl.SSLWantReadError:
                self._send_wants_read = True
                return 0
            except (OSError, ValueError) as exc:  # as in receive_now()
                raise BrokenError(exc) from exc
        self.sent += written
        return written

    def _wait_to_send(self, timeout: float) -> bool:
        blocked = self._send_wants_read
        return self.wait(read=blocked, write=not blocked, timeout=timeout)

    def wait(
        self,
        *,
        read: bool = False,
        write: bool = False,
        timeout: float | None,
        wake: int | None = None,
    ) -> bool:
        if read:
            with self._tls_lock:
                # Decrypted already: poll() knows of the kernel's buffer only.
                if self._sock.pending():
                    return True
        return super().wait(read=read, write=write, timeout=timeout, wake=wake)
