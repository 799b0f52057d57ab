"""The gunicorn worker class: ``gunicorn -k syncws.worker.WebSocketWorker``.

gunicorn's own threaded worker, with one difference: as soon as the head of a
request that asks for a WebSocket is parsed, its thread steps out of the pool of
HTTP threads and becomes that session's. Everything else, plain HTTP above all,
is gunicorn's code, untouched.

Threads: the *main* thread accepts, polls and keeps the connection count; *pool*
threads handle HTTP; a *session* thread handles one upgrade request, whatever
comes of it.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import threading
from enum import Enum
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn.workers.gthread import ThreadWorker

from ..session.registry import REGISTRY, stats
from ..upgrade.application import BUSY, refuse
from ..upgrade.connectors import CONNECTION_KEY, Connector, accept_through_wsgi
from ..upgrade.handshake import Reject
from ..upgrade.respond import carry_out_upgrades
from .lingering import Lingering
from .pool import Pool
from .slow_heads import Head, SlowHeads, look_at_head
from .statsd import Statsd

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed.wsgi import StartResponse

    from ..session.common import CommonSession
    from ..upgrade.handshake import Accept

__all__ = ["WebSocketWorker"]

logger = logging.getLogger("syncws")


class _Outcome(Enum):
    """What handle() gives for connections that gunicorn does not know how to finish."""

    #: It was a session's, and is closed.
    SESSION_OVER = "session over"
    #: The main thread has to wait for its first byte.
    SILENT = "silent"
    #: The request's head has come, in a thread outside of the pool.
    HEAD_READ = "head read"
    #: There was no thread to see to it that it comes in time, and it is closed.
    HEAD_REFUSED = "head refused"


#: RFC 8441 section 3: the answer to a protocol that CONNECT can not be had with.
_OVER_HTTP2 = Reject(501, "WebSockets are opened over HTTP/1.1 here, not over HTTP/2 (RFC 8441).")

#: Seconds that a stopping worker waits for heads that it is waiting for already.
#: As long as gunicorn waits for another request on connections kept alive.
STOP_HEAD_TIMEOUT = 2.0

#: Seconds that a head may take when there are as many slow ones, and sessions, as
#: there may be: it holds a thread of the pool. Two packets are closer together.
FULL_HEAD_TIMEOUT = 0.5

#: Seconds between two warnings that no more sessions can be taken.
COMPLAIN_EVERY = 60.0


class WebSocketWorker(ThreadWorker):
    """gunicorn's threaded worker, with each session on a thread of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In a pool thread: the worker's own refusal of a session. In a session
        # thread: its connection's connector.
        self._local = threading.local()
        self._slow_heads = SlowHeads()
        # For the main thread.
        self._lingering = Lingering(self._forget_connection)
        self._draining = False
        self._quitting = False
        self._statsd: Statsd | None = None
        # Guards the two below.
        self._sessions_lock = threading.Lock()
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

    def get_thread_pool(self) -> Any:
        self._pool = Pool(self.cfg.threads, "syncws http")
        return self._pool

    # Pool threads

    def handle(self, conn: Any) -> Any:
        """Handle a connection with something to read."""
        head = look_at_head(conn, tls=self.cfg.is_ssl)
        if head is Head.NOTHING:
            return _Outcome.SILENT
        if head is Head.PART:
            if self._step_out(conn):
                return self._wait_for_head(conn)
            # With no room for slow ones left, the quick ones are told from them here.
            try:
                self._slow_heads.read(conn, FULL_HEAD_TIMEOUT)
            except RuntimeError as exc:
                return self._refuse_head(conn, exc)
        self._local.connector = None
        try:
            result = super().handle(conn)
        except BaseException:
            if self._local.connector is None:
                raise
            logger.exception("the thread of a session failed")
        if self._local.connector is None:
            return result
        # This may wait for the peer to close too: not on the main thread,
        # where it would hold up every other connection.
        with contextlib.suppress(OSError):  # closed already
            conn.close(graceful=True)
        return _Outcome.SESSION_OVER

    def _wait_for_head(self, conn: Any) -> Any:
        """Read a head that takes its time, outside of the pool."""
        try:
            self._slow_heads.read(conn)
        except RuntimeError as exc:
            with self._sessions_lock:
                self._session_threads -= 1
            return self._refuse_head(conn, exc)
        return _Outcome.HEAD_READ

    def _refuse_head(self, conn: Any, error: RuntimeError) -> Any:
        """There is no thread for the clock."""
        conn.close()
        with self._sessions_lock:
            self._complain(str(error))
        return _Outcome.HEAD_REFUSED

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request; one that asks for a WebSocket outside of the pool."""
        self._local.refusal = None
        if _asks_for_websocket(req):
            if self._step_out(conn):
                self._local.connector = _WorkerConnector(conn)
            else:
                self._local.refusal = BUSY  # the wrapper of the application answers
        return super().handle_request(req, conn)

    def handle_http2_request(self, req: Any, conn: Any, h2_conn: Any) -> Any:
        """Answer a request on a stream of HTTP/2, whose socket other streams
        use too: never with a session."""
        protocol = req.stream.get_pseudo_headers().get(":protocol")
        self._local.refusal = _OVER_HTTP2 if protocol == "websocket" else None
        return super().handle_http2_request(req, conn, h2_conn)

    def _step_out(self, conn: Any) -> bool:
        """Make this thread one for a session, if there is room for another."""
        with self._sessions_lock:
            if self._session_threads >= self._max_session_threads:
                self._complain(
                    f"{self._session_threads} sessions are open, and the other {self.cfg.threads} "
                    f"of {self.worker_connections} worker_connections are kept for HTTP"
                )
                return False
            self._session_threads += 1
        try:
            self._pool.step_out(f"syncws session {conn.client}")
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

    def load_wsgi(self) -> None:
        super().load_wsgi()
        _log_where_gunicorn_does(self.log)
        application: Any = self.wsgi
        upgrading: Any = carry_out_upgrades(application)

        def with_connector(environ: Any, start_response: Any) -> Any:
            if self._local.refusal is not None:
                start_response.__self__.force_close()
                return refuse(self._local.refusal, environ, start_response)
            connector = self._local.connector
            if connector is not None:
                connector.response = start_response.__self__
                # Bytes that the peer sent behind its request are the
                # WebSocket's, and never another HTTP request.
                connector.response.force_close()
                environ[CONNECTION_KEY] = connector
                return upgrading(environ, start_response)
            return application(environ, start_response)

        self.wsgi = with_connector

    # The main thread

    def init_process(self) -> None:
        # Else it is done where no deadline reaches it; as it is, it is part of the
        # head's time.
        self.cfg.set("do_handshake_on_connect", False)
        if self.cfg.statsd_host:
            self._statsd = Statsd(self.log)
        super().init_process()

    def notify(self) -> None:
        """The heartbeat, about once a second."""
        super().notify()
        if self._statsd is not None:
            self._statsd.report(stats())

    def finish_request(self, conn: Any, fs: Any) -> None:
        try:
            result = fs.result()
        except BaseException:  # noqa: BLE001  # gunicorn asks again, and deals with it
            super().finish_request(conn, fs)
            return
        if isinstance(result, _Outcome):
            self._finish(conn, result)
        elif result:
            super().finish_request(conn, fs)
        else:
            self._lingering.close(conn, self.poller)

    def _finish(self, conn: Any, outcome: _Outcome) -> None:
        if outcome in (_Outcome.SESSION_OVER, _Outcome.HEAD_READ):
            with self._sessions_lock:
                self._session_threads -= 1
        if outcome is _Outcome.HEAD_READ:
            self.enqueue_req(conn)
        elif outcome is _Outcome.SILENT and self.alive:
            self._wait_for_first_byte(conn)
        else:
            if outcome is _Outcome.SILENT:
                conn.close()
            self.nr_conns -= 1

    def _forget_connection(self) -> None:
        self.nr_conns -= 1

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """Wait for what the main thread has to do, but not past what is due here."""
        super().wait_for_and_dispatch_events(self._lingering.wait_at_most(timeout))
        self._lingering.expire(self.poller)

    def _wait_for_first_byte(self, conn: Any) -> None:
        """As gunicorn does it after a while, with a deadline of our own."""
        conn.sock.setblocking(False)
        conn.timeout = self._slow_heads.due()
        self.pending_conns.append(conn)
        readable = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, readable)

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
            self._draining = True
            REGISTRY.drain()
            self._slow_heads.hurry(0.0 if self._quitting else STOP_HEAD_TIMEOUT)
            for conn in self.pending_conns:
                conn.timeout = monotonic()
            self.murder_pending()
            if self._quitting:
                for conn in self.keepalived_conns:
                    conn.timeout = monotonic()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT and SIGQUIT: as SIGTERM, but for connections kept alive."""
        self.cfg.worker_int(self)
        self._quitting = True
        self.handle_exit(sig, frame)


def _log_where_gunicorn_does(log: Any) -> None:
    """Unless the application has configured logging, for all or for syncws."""
    if not logger.hasHandlers():
        for handler in log.error_log.handlers:
            logger.addHandler(handler)
        logger.setLevel(log.error_log.level)


def _asks_for_websocket(req: Any) -> bool:
    return any(name == "UPGRADE" and "websocket" in value.lower() for name, value in req.headers)


class _WorkerConnector(Connector):
    """A connection of this worker's."""

    #: gunicorn's response, whose figures the access log shows.
    response: Any = None

    def __init__(self, conn: Any) -> None:
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

    def closed(self, session: CommonSession, sent: int) -> None:
        self.response.sent = sent
