"""Where a session's socket comes from: one connector for each kind of server.

WSGI knows no sockets (PEP 3333), so each server that syncws runs on hands its
own over in its own way. A connector is found for a request with ``connector_for()``;
a server that knows syncws, such as its gunicorn worker, puts one of its own
into ``environ["syncws.connection"]``.
"""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..system.transport import make_transport
from .handshake import Accept

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ..session.common import CommonSession
    from ..system.transport import Transport

__all__ = ["Connector", "accept_through_wsgi", "connector_for"]

CONNECTION_KEY = "syncws.connection"

SUPPORTED = (
    "gunicorn with the worker class syncws.worker.WebSocketWorker (for production), "
    "gunicorn with the worker class gthread, Werkzeug's development server, or syncws.serve()"
)


class Connector(ABC):
    """One request's socket, and what its server has to be told. Methods are
    called in this order, by the thread that runs the handler."""

    #: The connected socket. Its server closes it; syncws only shuts it down.
    socket: socket.socket

    def transport(self) -> Transport:
        """The way of the session's bytes."""
        return make_transport(self.socket)

    @abstractmethod
    def take_received(self) -> bytes:
        """The bytes behind the request's head that the server has read already."""

    @abstractmethod
    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        """Send the 101."""

    def opened(self, session: CommonSession) -> None:
        """The session is open."""

    def failed(self, error: Exception) -> None:
        """The handler raised; that has been logged, and the session is about to be closed."""

    def closed(self, session: CommonSession, sent: int) -> None:
        """The session is over, and ``sent`` bytes were sent in it. It may not have opened."""


def connector_for(environ: WSGIEnvironment) -> Connector:
    """The connector for a request.

    Raises ``RuntimeError`` on a server that syncws can not run on.
    """
    connector = environ.get(CONNECTION_KEY)
    if isinstance(connector, Connector):
        return connector
    if "werkzeug.socket" in environ:
        return WerkzeugConnector(environ)
    if "gunicorn.socket" in environ:
        return GthreadConnector(environ)
    server = environ.get("SERVER_SOFTWARE", "an unknown server")
    raise RuntimeError(f"WebSockets do not work on {server}: run the application on {SUPPORTED}")


def accept_through_wsgi(answer: Accept, start_response: StartResponse) -> None:
    """Send the 101 the way of WSGI, so that headers added by middleware are in it."""
    write = start_response(answer.status, answer.headers)
    if not callable(write):
        raise RuntimeError(
            "a WSGI middleware around the application swallows the result of start_response(); "
            "PEP 3333 wants it returned, and WebSockets need it"
        )
    write(b"")


class GthreadConnector(Connector):
    """Stock gunicorn with ``-k gthread``."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.socket = environ["gunicorn.socket"]
        if type(self.socket) not in (socket.socket, ssl.SSLSocket):
            raise RuntimeError(
                f"WebSockets do not work on gunicorn workers whose sockets are "
                f"{type(self.socket).__module__}'s: run the application on {SUPPORTED}"
            )
        if not environ.get("wsgi.multithread"):
            raise RuntimeError(
                "gunicorn's sync worker handles one request at a time and is killed after "
                f"--timeout, WebSocket or not: run the application on {SUPPORTED}"
            )
        body = environ["wsgi.input"]
        self._unreader: Any = getattr(getattr(body, "reader", None), "unreader", None)
        if self._unreader is None:
            raise RuntimeError(
                "a WSGI middleware around the application has replaced wsgi.input, behind which "
                "gunicorn keeps bytes of the WebSocket: leave it alone for WebSocket requests, or "
                "use the worker class syncws.worker.WebSocketWorker"
            )

    def take_received(self) -> bytes:
        received: bytes = self._unreader.take_buffered()
        return received

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        accept_through_wsgi(answer, start_response)

    def closed(self, session: CommonSession, sent: int) -> None:
        # gunicorn takes a connection that ended with a 101 for one kept alive,
        # and would run what the peer sent behind its Close as an HTTP request.
        self._unreader.chunk = lambda size_hint=None: b""


class WerkzeugConnector(Connector):
    """Werkzeug's development server, as ``flask run`` starts it."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        if not environ.get("wsgi.multithread"):
            raise RuntimeError(
                "without threads the development server does nothing else while a WebSocket "
                "is open: start it with threaded=True, or with 'flask run'"
            )
        self.socket = environ["werkzeug.socket"]
        self._rfile: Any = environ["wsgi.input"]

    def take_received(self) -> bytes:
        # A buffered reader gives what it has buffered, and reads its socket
        # only when that is nothing: on a socket that does not block.
        self.socket.setblocking(False)
        try:
            received = self._rfile.peek()
            return bytes(self._rfile.read(len(received))) if received else b""
        except ssl.SSLWantReadError:
            return b""
        finally:
            self.socket.setblocking(True)

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        # Werkzeug would add "Connection: close". It is told of the 101 for its
        # log line, and its attempt to send it fails quietly in the end, when
        # the connection has been shut down.
        start_response(answer.status, answer.headers)
        lines = [
            f"HTTP/1.1 {answer.status}",
            *(f"{name}: {value}" for name, value in answer.headers),
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
