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
from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import ThreadWorker

from .close import CloseCode, CloseReason
from .connectors import ENVIRON_KEY, Connector, accept_through_wsgi
from .upgrade import BUSY, refuse

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed.wsgi import StartResponse

    from .handshake import Accept
    from .session import Session

__all__ = ["WebSocketWorker"]

logger = logging.getLogger("syncws")

#: What handle() gives for a connection that a session thread has taken over.
_TAKEN_OVER = object()

#: Seconds between two warnings that no more sessions can be taken.
COMPLAIN_EVERY = 60.0

_GOING_AWAY = CloseReason(CloseCode.GOING_AWAY, "", "shutdown")


class WebSocketWorker(ThreadWorker):
    """gunicorn's threaded worker, with each session on a thread of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In a pool thread: whether a session thread has taken its connection
        # over, or could not. In a session thread: its connection's connector.
        self._local = threading.local()
        # Guards the four below; session.start_closing() is called without it.
        self._sessions_lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._draining = False
        self._session_threads = 0
        self._complained_at = -COMPLAIN_EVERY
        # A part of the connections is kept for HTTP.
        self._max_session_threads = self.worker_connections - self.cfg.threads

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        super().check_config(cfg, log)
        if cfg.worker_connections <= cfg.threads:
            log.warning(
                "No WebSocket can be opened: worker_connections (%d) has to be greater than "
                "threads (%d), which are kept for HTTP.",
                cfg.worker_connections,
                cfg.threads,
            )

    # Pool threads

    def handle(self, conn: Any) -> Any:
        """Handle a connection with something to read; by a pool or a session thread."""
        self._local.taken_over = False
        result = super().handle(conn)
        return _TAKEN_OVER if self._local.taken_over else result

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request, or have a session thread do it."""
        self._local.busy = False
        if getattr(self._local, "connector", None) is None and _asks_for_websocket(req):
            if self._start_session_thread(req, conn):
                self._local.taken_over = True
                return False
            self._local.busy = True  # the wrapper of the application answers
        return super().handle_request(req, conn)

    def _start_session_thread(self, req: Any, conn: Any) -> bool:
        with self._sessions_lock:
            if self._session_threads >= self._max_session_threads:
                self._complain(
                    f"{self._session_threads} sessions are open, and the other {self.cfg.threads} "
                    f"of {self.worker_connections} worker_connections are kept for HTTP"
                )
                return False
            self._session_threads += 1
        try:
            threading.Thread(
                target=self._run_session_thread,
                args=(conn, req),
                name=f"syncws session {conn.client}",
                daemon=True,
            ).start()
        except RuntimeError as exc:
            with self._sessions_lock:
                self._session_threads -= 1
                self._complain(str(exc))
            return False
        return True

    def _complain(self, why: str) -> None:
        """Once in a while: how often is for the peers to say."""
        now = monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning("WebSocket requests are answered with 503: %s", why)

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
            if getattr(self._local, "busy", False):
                start_response.__self__.force_close()
                return refuse(BUSY, environ, start_response)
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
        with self._sessions_lock:
            self._session_threads -= 1

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
