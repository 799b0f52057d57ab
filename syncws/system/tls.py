"""A TLS socket's bytes in and out, with deadlines."""

from __future__ import annotations

import select
import socket
import ssl
import threading

from .compiling import mypyc_attr
from .deadline import Deadline
from .transport import BrokenError, DeadlineError, Transport
from .wakeup import Wakeup

__all__ = ["TlsTransport", "make_transport"]

#: When OpenSSL was asked twice in vain, so many reads wait before they ask it. A vain question
#: costs two system calls and an exception, and a peer that sends one message at a time has mostly
#: sent nothing yet. If the peer sends faster than it is read, waiting first would cost more.
_READS_THAT_WAIT = 16


def make_transport(sock: socket.socket) -> Transport:
    """The transport for a connected socket, with or without TLS.

    Raises ``RuntimeError`` on Windows.
    """
    if not hasattr(socket, "MSG_DONTWAIT"):
        raise RuntimeError(
            "syncws can not open sessions on Windows, whose sockets have no poll() and no "
            "MSG_DONTWAIT: run this in WSL or in a container"
        )
    return TlsTransport(sock) if isinstance(sock, ssl.SSLSocket) else Transport(sock)


@mypyc_attr(allow_interpreted_subclasses=True)
class TlsTransport(Transport):
    """A TLS socket.

    Two threads must not use one OpenSSL object at once, and a read that waits inside OpenSSL
    would hold up the writers. So the socket is non-blocking, each call into OpenSSL is made under
    ``_tls_lock`` and returns at once, and threads wait outside of that lock.

    TLS sends and receives messages of its own, so a write may have to read first, and a read may
    have to write first. Such a call returns without effect; ``wait()`` then waits for the
    direction that OpenSSL needs, whatever direction its caller names.
    """

    __slots__ = (
        "_blocked_writers",
        "_found_at_once",
        "_reads_that_wait",
        "_receive_wants_write",
        "_send_wants_read",
        "_tls_lock",
    )

    _sock: ssl.SSLSocket

    def _prepare(self) -> None:
        # Guards the OpenSSL object and all of the below. Reentrant: a signal handler may close the
        # session in the thread that it has interrupted here, between two calls into OpenSSL.
        self._tls_lock = threading.RLock()
        self._receive_wants_write = False
        self._send_wants_read = False
        # The threads that wait for bytes which a write needs. A reader takes those bytes from
        # the kernel, and poll() does not notice that.
        self._blocked_writers: set[Wakeup] = set()
        # How many of the next reads wait first, and whether the last one that did not found bytes.
        # Only the reading thread uses them.
        self._reads_that_wait = 0
        self._found_at_once = True
        self._sock.setblocking(False)
        self._send_at_once()

    def receive(self, timeout: float | None, expected: int = 0) -> bytes:
        deadline = None if timeout is None else Deadline(timeout)
        if self._reads_that_wait:
            self._reads_that_wait -= 1
        else:
            data = self.receive_now(expected)
            if data is not None:
                self._found_at_once = True
                return data
            if not self._found_at_once:
                self._reads_that_wait = _READS_THAT_WAIT
            self._found_at_once = False
        while True:
            if not self.wait(read=True, timeout=None if deadline is None else deadline.left):
                raise DeadlineError("nothing was received in time")
            data = self.receive_now(expected)
            if data is not None:
                return data

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
            finally:
                self._let_writers_try()
        return self._took(data, expected)

    def _let_writers_try(self) -> None:
        """OpenSSL has read: it may have got the bytes that a write needs. Under the TLS lock."""
        self._send_wants_read = False
        for wakeup in self._blocked_writers:
            wakeup.set()

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

    def wait(
        self,
        *,
        read: bool = False,
        write: bool = False,
        timeout: float | None,
        wake: int | None = None,
    ) -> bool:
        if timeout is not None and timeout < 0:
            return False
        wakes = [] if wake is None else [wake]
        wakeup = None
        events = 0
        with self._tls_lock:
            if read:
                # poll() does not know of bytes that OpenSSL has decrypted already.
                if self._sock.pending():
                    return True
                events |= select.POLLOUT if self._receive_wants_write else select.POLLIN
            if write and not self._send_wants_read:
                events |= select.POLLOUT
            elif write:
                events |= select.POLLIN
                wakeup = Wakeup()
                self._blocked_writers.add(wakeup)
        try:
            if wakeup is not None and (fd := wakeup.fileno()) is not None:
                wakes.append(fd)
            return self._poll(events, wakes, timeout)
        finally:
            if wakeup is not None:
                with self._tls_lock:
                    self._blocked_writers.discard(wakeup)
                wakeup.close()
