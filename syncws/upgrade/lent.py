"""The socket of a stock server's request, while a session has it.

Stock gunicorn and the development server do not know that a program has opened a session. When
the view returns they answer the request on the same socket, or close it. So the socket gets a
class whose methods tell that the server wants it back. The session ends first, and nothing of
syncws uses the socket after that.

The methods are those that these servers call: ``sendall()`` writes the answer, in the request's
thread; ``shutdown()`` and ``close()`` end the connection, on gunicorn in the main thread, which
calls ``setblocking()`` before. A session uses none of them.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..session.running import FAILED, RETURNED

if TYPE_CHECKING:
    from ..close import CloseReason
    from ..session.common import CommonSession

    _Base = socket.socket
else:
    _Base = object

__all__ = ["Lent", "check_lendable", "is_lent"]


class Lent:
    """A session on a stock server's socket, which ends when the server uses that socket.

    The request's thread makes it, when the session has opened.
    """

    def __init__(
        self,
        sock: socket.socket,
        session: CommonSession,
        conclude: Callable[[CloseReason], None],
    ) -> None:
        self.session = session
        self._sock = sock
        self._type: Any = type(sock)
        self._conclude = conclude
        self._thread = threading.get_ident()
        _lent[sock] = self
        sock.__class__ = _CLASSES[self._type]

    def conclude(self, reason: CloseReason) -> None:
        """End the session, with ``reason`` unless it ends already. The socket is an ordinary
        one after that. Calls after the first do nothing. For the request's thread."""
        if _lent.pop(self._sock, None) is None:
            return
        self._sock.__class__ = self._type
        self._conclude(reason)

    def give_back(self, *, failed: bool = False) -> None:
        """The server uses the socket again. In another thread than the request's nobody waits
        for the peer's Close: that thread accepts connections."""
        if not self.is_of_this_thread:
            self.session._start_closing(RETURNED)
            self.session.terminate()
        self.conclude(FAILED if failed else RETURNED)

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the calling thread is the request's."""
        return threading.get_ident() == self._thread


# A value refers to its key, so conclude() has to remove it. There is no lock, which the child of a
# fork might find taken: each access is one operation of the dict.
_lent: dict[socket.socket, Lent] = {}


def is_lent(sock: socket.socket) -> bool:
    """Whether a session has the socket."""
    return sock in _lent


def check_lendable(sock: socket.socket) -> None:
    """Raise ``RuntimeError`` if the socket can not be lent to a session."""
    if type(sock) not in _CLASSES:
        raise RuntimeError(
            "a Server can not be made here, where sockets are of the class "
            f"{type(sock).__module__}.{type(sock).__qualname__}: run the application on gunicorn "
            "with the worker class syncws.compat.Worker"
        )


def _give_back(sock: socket.socket) -> None:
    lent = _lent.get(sock)
    if lent is not None:
        lent.give_back()


def _answer(sock: socket.socket, data: Any) -> None:
    """The server answers the request. Both servers take this error for a peer that has gone:
    they log nothing, and close the connection."""
    lent = _lent.get(sock)
    if lent is not None and lent.is_of_this_thread:
        lent.give_back(failed=bytes(data[:10]).startswith(b"HTTP/1.1 5"))
        raise BrokenPipeError(errno.EPIPE, "the request has become a WebSocket, which is over")


def _prepare(sock: socket.socket) -> None:
    """The request's thread does this right before it answers; see ``_answer()``."""
    lent = _lent.get(sock)
    if lent is not None and not lent.is_of_this_thread:
        lent.give_back()


# Without slots of their own these classes have the layout of their bases, so the class of a
# socket can be changed to one of them and back.


class _GivesBack(_Base):
    __slots__ = ()

    def sendall(self, data: Any, flags: int = 0) -> None:
        _answer(self, data)
        super().sendall(data, flags)

    def setblocking(self, flag: bool) -> None:
        _prepare(self)
        super().setblocking(flag)

    def shutdown(self, how: int) -> None:
        _give_back(self)
        super().shutdown(how)

    def close(self) -> None:
        _give_back(self)
        super().close()


class _Lent(_GivesBack, socket.socket):
    __slots__ = ()


class _LentTls(_GivesBack, ssl.SSLSocket):
    __slots__ = ()


_CLASSES: dict[Any, Any] = {socket.socket: _Lent, ssl.SSLSocket: _LentTls}
