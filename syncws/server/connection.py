"""One connection of ``serve()`` and its thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from ..system.logs import logger
from ..system.tls import make_transport
from ..system.transport import BrokenError, DeadlineError
from ..upgrade.connectors import CONNECTION_KEY, Connector, accept_through_wsgi
from ..upgrade.handshake import is_websocket_request
from .http1 import BadRequestError, HttpConnection
from .wsgi import ResponseWriter, answer_request, make_environ

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from ..session.common import CommonSession
    from ..upgrade.handshake import Accept

__all__ = ["ServerConnection", "ServerConnector"]

access_logger = logging.getLogger("syncws.access")


class ServerConnection(threading.Thread):
    """Answers the requests of one connection, one after the other, and closes it.

    ``base_environ`` has the keys that all requests of the connection have in common.
    This thread calls ``on_end`` last.

    A TLS socket comes before its handshake. The first read makes the handshake, within the
    time of the first request's head.
    """

    def __init__(
        self,
        sock: socket.socket,
        base_environ: WSGIEnvironment,
        application: WSGIApplication,
        server: object,
        on_end: Callable[[ServerConnection], None],
        *,
        only_one_request: bool = False,
    ) -> None:
        peer = f"{base_environ['REMOTE_ADDR']}:{base_environ['REMOTE_PORT']}"
        super().__init__(name=f"syncws connection {peer}", daemon=True)
        self._sock = sock
        self._base_environ = base_environ
        self._application = application
        self._server = server
        self._on_end = on_end
        self._only_one_request = only_one_request
        self._transport = make_transport(sock)
        self._http = HttpConnection(self._transport)
        # Guards _answering against finish(). Also, no other thread may shut the socket
        # down after it is closed: its descriptor may belong to another connection then.
        self._lock = threading.Lock()
        self._answering = False

    # For the server, from any thread

    def finish(self) -> None:
        """End as soon as no request is being answered; returns at once."""
        with self._lock:
            self._http.closing = True
            if not self._answering:
                self._transport.shutdown()

    def cut(self) -> None:
        """End the connection now; a thread that waits for the peer wakes up."""
        with self._lock:
            self._transport.shutdown()

    # This thread

    def run(self) -> None:
        """Answer requests until there are no more."""
        try:
            self._answer_requests()
            self._http.finish()
        except (BrokenError, DeadlineError) as exc:
            logger.debug("%s ends: %s", self.name, exc)
        except SystemExit:
            pass  # sys.exit() in a thread ends that thread
        finally:
            with self._lock:
                self._transport.shutdown()
                self._sock.close()
            self._on_end(self)

    def _answer_requests(self) -> None:
        while True:
            try:
                request = self._http.next_request()
            except BadRequestError as exc:
                logger.info("bad request in %s: %s", self.name, exc)
                ResponseWriter(self._http).refuse(exc.status, str(exc))
                return
            if request is None:
                return
            with self._lock:
                self._answering = True
            try:
                method, target = request.method, request.target
                environ = make_environ(request, self._http, self._base_environ)
                # A session may last for hours. h11's own headers take as much memory as the
                # environ.
                del request
                self._answer(environ, method, target)
            finally:
                with self._lock:
                    self._answering = False
            if not self._http.start_next_cycle():
                return

    def _answer(self, environ: WSGIEnvironment, method: bytes, target: bytes) -> None:
        started = monotonic()
        response = ResponseWriter(self._http, method)
        if is_websocket_request(environ) or self._only_one_request:
            # The bytes behind a WebSocket request are frames, never another HTTP request.
            self._http.closing = True
        environ[CONNECTION_KEY] = ServerConnector(self._sock, self._http, response, self._server)
        try:
            answer_request(self._application, environ, response)
        finally:
            access_logger.info(
                '%s "%s %s %s" %d %d bytes %.3f s',
                environ["REMOTE_ADDR"] or "unix",
                method.decode("ascii"),
                target.decode("ascii"),
                environ["SERVER_PROTOCOL"],
                response.status,
                response.sent,
                monotonic() - started,
            )


class ServerConnector(Connector):
    """A request that may become a session."""

    def __init__(
        self,
        sock: socket.socket,
        http: HttpConnection,
        response: ResponseWriter,
        server: object = None,
    ) -> None:
        self.socket = sock
        self._http = http
        self._response = response
        self.server = server

    def take_received(self) -> bytes:
        return self._http.take_received()

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        accept_through_wsgi(answer, start_response)
        if not self._response.started:
            raise RuntimeError(
                "a WSGI middleware around the application holds the response back: let it pass "
                "WebSocket requests through unchanged"
            )

    def closed(self, session: CommonSession, sent: int) -> None:
        self._response.sent = sent
