"""Sockets that a program uses itself, beside its handler's thread.

simple-websocket, and with it flask-sock, takes ``environ["gunicorn.socket"]`` and reads it
in a thread of its own. When the peer's Close arrives, that thread first wakes the handler
and then answers with a Close. If the worker closed the connection as soon as the handler
returns, the answer could be lost. So the worker first waits for the program's threads:
when they have ended, everything they had to send has been sent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from typing import Any

from ..system.deadline import Deadline
from ..upgrade.http_times import LINGER

__all__ = ["Borrowed"]


class Borrowed:
    """Notes the threads, other than the one that makes this, that read ``sock``.

    Only the thread that makes it calls its methods.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._type: Any = type(sock)
        self._handler_thread = threading.current_thread()
        # Other threads add themselves. Guarded by _lock.
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        with _observed_lock:
            _observed[sock] = self
        sock.__class__ = _ObservedTls if isinstance(sock, ssl.SSLSocket) else _Observed

    def stop_observing(self) -> None:
        """The socket is an ordinary one again."""
        self._sock.__class__ = self._type
        with _observed_lock:
            _observed.pop(self._sock, None)

    def note_reader(self) -> None:
        """The calling thread reads the socket."""
        thread = threading.current_thread()
        if thread is not self._handler_thread:
            with self._lock:
                self._threads.add(thread)

    def wait(self) -> bool:
        """Wait for the threads that have read the socket to end; return whether all have.

        If they have not within ``LINGER`` seconds (the peer has not answered the program's
        Close), the connection is shut down, which ends every read from it, and they have the
        same time again. The socket is not observed any longer.
        """
        try:
            if self._ended_within(LINGER):
                return True
            with contextlib.suppress(OSError):  # it has gone already
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
            return self._ended_within(LINGER)
        finally:
            self.stop_observing()

    def _ended_within(self, timeout: float) -> bool:
        deadline = Deadline(timeout)
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(deadline.left)
        return not any(thread.is_alive() for thread in threads)


#: A value refers to its key, so stop_observing() has to remove it.
_observed: dict[socket.socket, Borrowed] = {}
_observed_lock = threading.Lock()


def _note_reader(sock: socket.socket) -> None:
    with _observed_lock:
        borrowed = _observed.get(sock)
    if borrowed is not None:
        borrowed.note_reader()


# Without slots of their own these classes have the layout of their bases, so the class of a
# socket can be changed to one of them and back.


class _Observed(socket.socket):
    __slots__ = ()

    def recv(self, *args: Any) -> bytes:
        _note_reader(self)
        return super().recv(*args)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _note_reader(self)
        return super().recv_into(*args, **kwargs)


class _ObservedTls(ssl.SSLSocket):
    __slots__ = ()

    def recv(self, *args: Any) -> bytes:
        _note_reader(self)
        return super().recv(*args)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _note_reader(self)
        return super().recv_into(*args, **kwargs)
