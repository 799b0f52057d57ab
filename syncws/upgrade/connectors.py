"""Connectors get a session's socket from its server: one class for each kind of server.

WSGI knows no sockets (PEP 3333), and each server hands its socket over in its own way.
``connector_for()`` finds the connector for a request. A server that knows syncws, such as
the gunicorn worker, puts its connector into ``environ["syncws.connection"]``.
"""

from __future__ import annotations

import socket
import ssl
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..session.frame_log import logging_transport
from .handshake import Accept

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from ..session.common import CommonSession
    from ..system.transport import Transport

__all__ = ["Connector", "accept_on_socket", "accept_through_wsgi", "connector_for"]

#: The key of the environ under which a server puts its connector.
CONNECTION_KEY = "syncws.connection"

SUPPORTED = (
    "gunicorn with the worker class syncws.worker.WebSocketWorker (for production), "
    "gunicorn with the worker class gthread, Werkzeug's development server, python -m syncws serve "
    "module:app, or syncws.serve()"
)


class Connector(ABC):
    """The socket of one request, and the calls that tell its server about the session.

    The thread that runs the handler calls the methods, in this order.
    """

    #: The connected socket. Its server closes it; syncws only shuts it down.
    socket: socket.socket
    #: The server whose end ends the session, in a process that may have several.
    server: object = None

    def transport(self) -> Transport:
        """Return the transport that reads and writes the session's bytes."""
        return logging_transport(self.socket)

    @abstractmethod
    def take_received(self) -> bytes:
        """Return the bytes behind the request's head that the server has read already."""

    @abstractmethod
    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        """Send the 101."""

    def opened(self, session: CommonSession) -> None:
        """The session is open."""

    def failed(self, error: Exception) -> None:
        """The handler has raised. The error is logged, and the session closes next."""

    def closed(self, session: CommonSession, sent: int) -> None:
        """The session is over; ``sent`` bytes were sent in it. It may have failed to open."""


def connector_for(environ: WSGIEnvironment) -> Connector:
    """Return the connector for a request.

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
    """Send the 101 through ``start_response()``, so that middleware can add headers."""
    write = start_response(answer.status, answer.headers)
    if not callable(write):
        raise RuntimeError(
            "a WSGI middleware around the application swallows the result of start_response(): "
            "let it return that result, as PEP 3333 demands"
        )
    write(b"")


def accept_on_socket(answer: Accept, sock: socket.socket) -> None:
    """Write the 101 to the socket itself."""
    lines = [
        f"HTTP/1.1 {answer.status}",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))


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
                "a WSGI middleware around the application has replaced wsgi.input, where "
                "gunicorn keeps bytes of the WebSocket: let it pass WebSocket requests through "
                "unchanged, or use the worker class syncws.worker.WebSocketWorker"
            )

    def take_received(self) -> bytes:
        received: bytes = self._unreader.take_buffered()
        return received

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        accept_through_wsgi(answer, start_response)

    def closed(self, session: CommonSession, sent: int) -> None:
        # gunicorn keeps a connection alive after a 101. It would run the bytes that the peer
        # sent behind its Close as an HTTP request.
        self._unreader.chunk = lambda size_hint=None: b""


class WerkzeugConnector(Connector):
    """Werkzeug's development server, as ``flask run`` starts it."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        if not environ.get("wsgi.multithread"):
            raise RuntimeError(
                "without threads the development server answers nothing else while a WebSocket "
                "is open: start it with threaded=True, or with 'flask run'"
            )
        self.socket = environ["werkzeug.socket"]
        self._rfile: Any = environ["wsgi.input"]

    def take_received(self) -> bytes:
        # peek() returns the buffered bytes. With an empty buffer it reads the socket, which
        # must not block.
        self.socket.setblocking(False)
        try:
            received = self._rfile.peek()
            return bytes(self._rfile.read(len(received))) if received else b""
        except ssl.SSLWantReadError:
            return b""
        finally:
            self.socket.setblocking(True)

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        # Werkzeug would add "Connection: close", so the 101 is sent here. start_response()
        # gives Werkzeug the status for its log line; its own attempt to send the 101 fails
        # quietly at the end, after the connection has been shut down.
        start_response(answer.status, answer.headers)
        accept_on_socket(answer, self.socket)
