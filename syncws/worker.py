"""The gunicorn worker class: ``gunicorn -k syncws.worker.WebSocketWorker``.

gunicorn's own threaded worker, with one difference: a request that asks for a
WebSocket leaves the pool of HTTP threads as soon as its head is parsed, and
goes on in a thread of its own. Everything else, plain HTTP above all, is
gunicorn's code, untouched.

Threads: the *main* thread accepts, polls and keeps the connection count; *pool*
threads handle HTTP; a *session* thread handles one upgrade request, whatever
comes of it, and ends.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.workers.gthread import ThreadWorker

from .close import CloseCode, CloseReason
from .connectors import ENVIRON_KEY, Connector, accept_through_wsgi

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed.wsgi import StartResponse

    from .handshake import Accept
    from .session import Session

__all__ = ["WebSocketWorker"]

logger = logging.getLogger("syncws")

#: What handle() gives for a connection that a session thread has taken over.
_TAKEN_OVER = object()

_GOING_AWAY = CloseReason(CloseCode.GOING_AWAY, "", "shutdown")


class WebSocketWorker(ThreadWorker):
    """gunicorn's threaded worker, with each session on a thread of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In a pool thread: the upgrade request just parsed. In a session
        # thread: the connector of its connection.
        self._local = threading.local()
        # Guards the two below; session.start_closing() is called without it.
        self._sessions_lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._draining = False

    # Pool threads

    def handle(self, conn: Any) -> Any:
        """Handle a connection with something to read; by a pool or a session thread."""
        self._local.upgrade = None
        result = super().handle(conn)
        request = self._local.upgrade
        if request is None:
            return result
        try:
            threading.Thread(
                target=self._run_session_thread,
                args=(conn, request),
                name=f"syncws session {conn.client}",
                daemon=True,
            ).start()
        except RuntimeError as exc:
            logger.warning("no thread for another session: %s", exc)
            util.write_error(conn.sock, 503, "Service Unavailable", "No thread is free.")
            return False
        return _TAKEN_OVER

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request, unless it is for a session thread to answer."""
        if getattr(self._local, "connector", None) is None and _asks_for_websocket(req):
            self._local.upgrade = req
            return False
        return super().handle_request(req, conn)

    # Session threads

    def _run_session_thread(self, conn: Any, request: Any) -> None:
        """Do what a pool thread does with a request, and close the connection."""
        self._local.connector = _WorkerConnector(self, conn)
        conn.parser = _Parsed(request, conn)
        try:
            self.handle(conn)
        finally:
            try:
                # This may wait for the peer to close too: not on the main
                # thread, where it would hold up every other connection.
                with contextlib.suppress(OSError):  # closed already
                    conn.close(graceful=True)
            finally:
                self.method_queue.defer(self._count_closed)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        application: Any = self.wsgi

        def with_connector(environ: Any, start_response: Any) -> Any:
            connector = getattr(self._local, "connector", None)
            if connector is not None:
                connector.response = start_response.__self__
                # Bytes that the peer sent behind its request are the
                # WebSocket's, and never another HTTP request.
                connector.response.force_close()
                environ[ENVIRON_KEY] = connector
            return application(environ, start_response)

        self.wsgi = with_connector

    def add_session(self, session: Session) -> None:
        """A session has opened. By its session thread."""
        with self._sessions_lock:
            self._sessions.add(session)
            draining = self._draining
        if draining:
            session.start_closing(_GOING_AWAY)

    def remove_session(self, session: Session) -> None:
        """A session is over. By its session thread."""
        with self._sessions_lock:
            self._sessions.discard(session)

    # The main thread

    def finish_request(self, conn: Any, fs: Any) -> None:
        if not fs.cancelled() and fs.exception() is None and fs.result() is _TAKEN_OVER:
            return
        connections = self.nr_conns
        super().finish_request(conn, fs)
        # gunicorn counts a connection twice when closing it fails, as it does
        # after a TLS client has gone; at zero it would not wait for sessions.
        self.nr_conns = max(self.nr_conns, connections - 1)

    def _count_closed(self) -> None:
        self.nr_conns -= 1

    def is_parent_alive(self) -> bool:
        if super().is_parent_alive():
            return True
        # gunicorn leaves its loop for this, too, but does not say so here.
        self.alive = False
        return False

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """Accept connections or not; a graceful stop begins with not doing so."""
        super().set_accept_enabled(enabled)
        if not self.alive and not self._draining:
            self._drain()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT and SIGQUIT: leave soon, without waiting for handlers."""
        # In a thread: whatever lock the main thread holds, it is the one that
        # runs this signal handler, and can not be waited for in it.
        drain = threading.Thread(target=self._drain, daemon=True)
        drain.start()
        drain.join(1.0)
        super().handle_quit(sig, frame)

    def _drain(self) -> None:
        """Tell every session at once that the server goes away."""
        with self._sessions_lock:
            self._draining = True
            sessions = list(self._sessions)
        for session in sessions:
            session.start_closing(_GOING_AWAY)


def _asks_for_websocket(req: Any) -> bool:
    return any(name == "UPGRADE" and "websocket" in value.lower() for name, value in req.headers)


class _Parsed:
    """A parser in place of gunicorn's, that gives the request which a pool
    thread has parsed already and then makes way for the real one."""

    def __init__(self, request: Any, conn: Any) -> None:
        self._request = request
        self._conn = conn
        self._parser = conn.parser

    def __next__(self) -> Any:
        self._conn.parser = self._parser
        return self._request


class _WorkerConnector(Connector):
    """A connection of this worker's."""

    #: gunicorn's response, whose figures the access log shows.
    response: Any = None

    def __init__(self, worker: WebSocketWorker, conn: Any) -> None:
        self._worker = worker
        self._conn = conn
        self.socket = conn.sock

    def take_received(self) -> bytes:
        received: bytes = self._conn.parser.unreader.take_buffered()
        return received

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        accept_through_wsgi(answer, start_response)
        if not self.response.headers_sent:
            raise RuntimeError(
                "a WSGI middleware around the application holds its response back; it has to "
                "leave WebSocket requests alone"
            )

    def opened(self, session: Session) -> None:
        self._worker.add_session(session)

    def closed(self, session: Session, sent: int) -> None:
        self.response.sent = sent
        self._worker.remove_session(session)
