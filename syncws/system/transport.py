"""A socket's bytes in and out, with deadlines; ``tls.py`` does the same over TLS.

Two threads use a transport at once: one reads and one writes. Python has one timeout for each
socket, shared by both directions, so no timeout is set on the socket. Only a read that may wait
for ever blocks in the system call itself; every other wait is a ``poll()`` of its own.

A transport never closes its socket. The server that accepted the socket closes it, and a second
``close()`` would corrupt the server's count of connections.

Errors are translated here: ``DeadlineError`` when a deadline passes, ``BrokenError`` when the
connection is broken. (``OSError`` cannot serve for both: when the kernel gives up on a connection,
Python raises a ``TimeoutError``, which is an ``OSError``.)
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import sys
from collections.abc import Iterable

from .compiling import mypyc_attr
from .deadline import Deadline
from .patience import Patience

with contextlib.suppress(ImportError):  # syncws can be imported on Windows, which has neither
    # Not imported when they are first needed: by then the process may have no descriptor left.
    import fcntl
    import termios

__all__ = ["BrokenError", "DeadlineError", "Transport"]

#: Bytes asked for in one read, unless more are known to come. Python allocates them before it
#: waits, so a session idle in receive() holds this much memory. Sixteen short messages fit.
SMALL_READ_SIZE = 1024
#: The same after a read that brought SMALL_READ_SIZE or the end of a longer message, and after one
#: that brought READ_SIZE: the next message may be as large, and may have arrived. A message of
#: 64 KiB fits into the latter, with its header.
READ_SIZE = 4 * 1024
LARGE_READ_SIZE = 96 * 1024
#: The largest read, in bytes. For each larger one glibc takes memory from the system and gives it
#: back, and the system clears each page. With reads of 1 MiB, an echo of 1 MiB took half as much
#: time again.
MAX_READ_SIZE = 256 * 1024

# Looked up once, since it is needed for each frame. Windows has none (see make_transport()).
_DONT_WAIT = int(getattr(socket, "MSG_DONTWAIT", 0))

#: Payloads of fewer bytes are joined with the header: copying them costs less than a system call
#: with two parts.
JOIN_BELOW = 32 * 1024

#: How many bytes of Linux's ``struct tcp_info`` are read, and where ``tcpi_bytes_acked`` and
#: ``tcpi_bytes_received`` begin in them. Each takes 8 bytes.
_TCP_INFO_SIZE = 136
_BYTES_ACKED = 120
_BYTES_RECEIVED = 128
#: The same for fields of 4 bytes: segments without an acknowledgement (``tcpi_unacked``), and
#: milliseconds since the last one (``tcpi_last_ack_recv``).
_UNACKED = 24
_LAST_ACK_RECV = 56

#: The events of poll() after which the peer sends nothing more. macOS has no POLLRDHUP.
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)

#: poll() takes milliseconds in 31 bits; longer waits are made of several.
_MAX_POLL = 1_000_000.0


def _size_after(size: int) -> int:
    """Bytes to ask for after a read that brought ``size`` and was not a small one."""
    return READ_SIZE if size < READ_SIZE else LARGE_READ_SIZE


class DeadlineError(Exception):
    """The deadline passed before the call was done."""


class BrokenError(Exception):
    """The connection is broken; ``errno`` and the message are those of the system."""

    def __init__(self, error: OSError | ValueError) -> None:
        super().__init__(getattr(error, "strerror", None) or str(error))
        self.errno = getattr(error, "errno", None)


@mypyc_attr(allow_interpreted_subclasses=True)
class Transport:
    """A stream socket without TLS.

    One thread at a time may read, and one may write. Any thread may call ``shutdown()`` and
    ``wait()``.
    """

    __slots__ = ("_read_size", "_sock", "received", "sent")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read_size = SMALL_READ_SIZE
        #: Bytes so far, for the access log.
        self.received = 0
        self.sent = 0
        self._prepare()

    def _prepare(self) -> None:
        if self._sock.gettimeout() is not None:  # setting it is a system call
            self._sock.settimeout(None)
        self._send_at_once()

    def _send_at_once(self) -> None:
        """Switch Nagle's algorithm off: messages are written whole, so it would only delay them."""
        # A Unix socket has no such option. Asking for the family, of which Python makes an
        # enumeration, would cost each session more time, and its stack half a page.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, timeout: float | None, expected: int = 0) -> bytes:
        """Wait for bytes for up to ``timeout`` seconds, for ever with None.

        ``expected`` is how many bytes are known to come. Returns ``b""`` at the end of the
        stream, and after ``shutdown()``.
        """
        if timeout is None:
            # Nothing is called here that is not needed: most messages come this way.
            size = self._read_size
            if expected > size:
                size = min(expected, MAX_READ_SIZE)
            try:
                data = self._sock.recv(size)
            except OSError as exc:
                raise BrokenError(exc) from exc
            size = len(data)
            self.received += size
            if expected or size >= SMALL_READ_SIZE:
                self._read_size = _size_after(size)
            else:
                self._read_size = SMALL_READ_SIZE
            return data
        deadline = Deadline(timeout)
        while True:
            if not self.wait(read=True, timeout=deadline.left):
                raise DeadlineError("nothing was received in time")
            data_now = self.receive_now(expected)
            if data_now is not None:
                return data_now

    def receive_now(self, expected: int = 0) -> bytes | None:
        """The bytes that have arrived: ``b""`` at the end of the stream, None if there are none."""
        size = self._next_size(expected)
        try:
            data = self._sock.recv(size, _DONT_WAIT)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise BrokenError(exc) from exc
        return self._took(data, expected)

    def _next_size(self, expected: int) -> int:
        size = self._read_size
        return size if expected <= size else min(expected, MAX_READ_SIZE)

    def _took(self, data: bytes, expected: int) -> bytes:
        size = len(data)
        self.received += size
        if expected or size >= SMALL_READ_SIZE:
            self._read_size = _size_after(size)
        else:
            self._read_size = SMALL_READ_SIZE
        return data

    def send(
        self,
        head: bytes,
        payload: bytes | bytearray | memoryview,
        timeout: float,
        *,
        renewed: bool = False,
    ) -> None:
        """Write ``head`` and ``payload``, all of it, within ``timeout`` seconds.

        If the time is ``renewed``, it begins anew whenever the peer has read something. Raises
        ``DeadlineError`` when the time is over; a part may have been written by then.
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
        patience = Patience(self, timeout, renewed=renewed)
        while rest:
            if patience.is_over():
                raise DeadlineError("the peer does not read")
            if self.wait(write=True, timeout=patience.left):
                written = self.send_now(rest)
                rest = rest[written:]

    def _send_both_now(self, head: bytes, payload: bytes | bytearray | memoryview) -> int:
        """As ``send_now()`` for two parts, without joining them."""
        try:
            written = self._sock.sendmsg((head, payload), (), _DONT_WAIT)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise BrokenError(exc) from exc
        self.sent += written
        return written

    def send_now(self, data: bytes | memoryview) -> int:
        """Write as much as fits without waiting; return the number of bytes written."""
        try:
            written = self._sock.send(data, _DONT_WAIT)
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

        Returns False when ``timeout`` seconds pass first; a negative timeout does not look.
        ``shutdown()`` and a reset end the wait.
        """
        if timeout is not None and timeout < 0:
            return False
        events = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
        return self._poll(events, () if wake is None else (wake,), timeout)

    def _poll(self, events: int, wakes: Iterable[int], timeout: float | None) -> bool:
        """``poll()`` the socket for ``events``, and every descriptor in ``wakes`` for reading."""
        poll = select.poll()
        fd = self._sock.fileno()
        if fd < 0:
            return True  # the server has closed it: the next read or write raises BrokenError
        if events:  # a socket registered without events would still report a reset, again and again
            poll.register(fd, events)
        for wake in wakes:
            poll.register(wake, select.POLLIN)
        if timeout is None:
            return bool(poll.poll())
        deadline = Deadline(timeout)
        while deadline.left > _MAX_POLL:
            if poll.poll(_MAX_POLL * 1000):
                return True
        # Rounded up: a wait that ends a moment too early would have to be repeated.
        return bool(poll.poll(math.ceil(deadline.left * 1000)))

    def readable(self) -> bool:
        """Whether bytes have arrived that no thread has read yet."""
        return self.wait(read=True, timeout=0)

    def unsent(self) -> int:
        """Bytes written that the peer's system has not acknowledged yet; 0 if unknown."""
        if sys.platform == "win32":
            return 0
        try:
            answer = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return 0
        return int.from_bytes(answer, sys.byteorder)

    def acknowledged(self) -> int:
        """How many of all the bytes written the peer's system has acknowledged."""
        return self.sent - self.unsent()

    def progress(self) -> int:
        """A number that changes when the peer's system acknowledges bytes.

        Linux counts acknowledged bytes itself. Elsewhere, and on Unix sockets, it is
        ``acknowledged()``. Under TLS that says little: a large write counts only when all of it is
        written, and the number of unsent bytes may be the same again by chance.
        """
        counted = self._counted_by_linux(_BYTES_ACKED, 8)
        return self.acknowledged() if counted is None else counted

    def arrived(self) -> int:
        """A number that changes when bytes of the peer arrive.

        Linux counts them itself, before any thread reads them. Elsewhere, and on Unix sockets, it
        is ``received``: bytes count only when the thread that has read them runs again.
        """
        counted = self._counted_by_linux(_BYTES_RECEIVED, 8)
        return self.received if counted is None else counted

    def gone(self, silence: float) -> bool:
        """Whether the peer sends nothing more, though its bytes may lie unread.

        It has ended the connection or reset it; or bytes are on their way to it, and nothing has
        been heard of its system for ``silence`` seconds, which only Linux tells.
        """
        if self._poll(_GONE, (), 0):
            return True
        unacked = self._counted_by_linux(_UNACKED, 4)
        heard = self._counted_by_linux(_LAST_ACK_RECV, 4)
        return bool(unacked) and heard is not None and heard >= silence * 1000

    def _counted_by_linux(self, field: int, size: int) -> int | None:
        """A field of ``struct tcp_info``, of ``size`` bytes; None if there is none."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # not TCP, or closed
                # The method of the plain socket, for TLS too.
                info = socket.socket.getsockopt(
                    self._sock, socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE
                )
                if len(info) == _TCP_INFO_SIZE:
                    return int.from_bytes(info[field : field + size], sys.byteorder)
        return None

    def shutdown_write(self) -> None:
        """Tell the peer that this side sends nothing more; reading goes on."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def shutdown(self) -> None:
        """End the connection now, in both directions, and wake every thread that waits on it."""
        # The method of the plain socket: ssl.SSLSocket.shutdown() would remove the TLS object
        # while another thread uses it.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
