"""The gunicorn worker class: ``gunicorn -k syncws.worker.WebSocketWorker``.

It is gunicorn's own threaded worker with one difference. When the head of a request that
asks for a WebSocket has been parsed, its thread steps out of the pool of HTTP threads and
runs that request alone. Plain HTTP runs in gunicorn's own code.

Threads: the *main* thread accepts, polls and counts connections; *pool* threads handle
HTTP; a thread *outside the pool* handles one upgrade request, whatever the answer, or
waits for one slow request head.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import selectors
import socket
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import ThreadWorker

from ..session.registry import stats
from ..system.logs import logger
from ..system.rarely import Rarely
from ..upgrade.application import busy, refuse
from ..upgrade.connectors import CONNECTION_KEY
from ..upgrade.handshake import Reject
from ..upgrade.respond import carry_out_upgrades
from .capacity import Capacity, RareWarning, check_limits
from .connector import WorkerConnector, asks_for_websocket
from .goodbye import Goodbye, goodbye_seconds
from .heads import Arrived, ParsedHead, SlowHeads, parse_arrived
from .idle import IdleConnections
from .lingering import Lingering
from .outcome import Done, Ends, Outcome
from .pool import Pool
from .settings import Settings
from .statsd import Statsd

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["WebSocketWorker"]


#: RFC 8441 section 3: the answer to a protocol that CONNECT can not be had with.
_OVER_HTTP2 = Reject(501, "WebSockets are opened over HTTP/1.1 here, not over HTTP/2 (RFC 8441).")

#: Seconds that a stopping worker waits for heads that it is waiting for already.
#: As long as gunicorn waits for another request on connections kept alive.
STOP_HEAD_TIMEOUT = 2.0

#: Seconds that a slow head may take when there is room for no more threads outside the
#: pool: it holds a thread of the pool. Two packets are closer together.
FULL_HEAD_TIMEOUT = 0.5

#: Seconds without accepting when the system has no descriptor or no memory for another
#: connection. gunicorn's main loop turns about as often.
ACCEPT_PAUSE = 1.0

#: Seconds between two heartbeats at least, each of which is a system call. gunicorn's arbiter
#: counts in seconds.
NOTIFY_EVERY = 0.1

_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class WebSocketWorker(ThreadWorker):
    """gunicorn's threaded worker, with each session on a thread of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In a pool thread: the worker's own refusal of a session. In a thread outside the
        # pool: its connection's connector.
        self._local = threading.local()
        self._capacity = Capacity(self.worker_connections, self.cfg.threads)
        self._slow_heads = SlowHeads()
        self._warn_refused = RareWarning()
        self._warn_closed = RareWarning()
        self._ends = Ends()
        # The main thread uses the rest.
        self._warn_not_accepting = RareWarning()
        self._lingering = Lingering(self._count_closed)
        self._idle = IdleConnections(self)
        # Whether a connection waits to be accepted, and there is no room or descriptor for it.
        self._room_wanted = False
        # No connection is accepted before this moment (monotonic).
        self._accept_again_at = 0.0
        self._goodbye = Goodbye(goodbye_seconds(self.cfg))
        self._heartbeat = Rarely(NOTIFY_EVERY)
        self._accepting = False
        self._draining = False
        self._quitting = False
        self._statsd: Statsd | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        super().check_config(cfg, log)
        goodbye_seconds(cfg)
        check_limits(cfg, log)

    def get_thread_pool(self) -> Any:
        self._pool = Pool(self.cfg.threads, "syncws http")
        return self._pool

    # Pool threads, and threads that have stepped out

    def _handle(self, conn: Any) -> None:
        """The task of a pool thread."""
        done = Done()
        try:
            done.outcome = self.handle(conn)
        except BaseException as exc:  # noqa: BLE001  # raised again in the main thread
            done.error = exc
        if done.outcome is not Outcome.SESSION_OVER:
            self.method_queue.defer(self.finish_request, conn, done)
            return
        self._capacity.give_session()
        if self._ends.note():
            self.method_queue.defer(self._count_ended)

    def handle(self, conn: Any) -> Any:
        """Handle a connection with something to read."""
        if not isinstance(conn.parser, ParsedHead) and not conn.is_http2:
            arrived = parse_arrived(conn)
            if arrived is Arrived.NOTHING:
                return Outcome.SILENT
            if arrived is Arrived.PART:
                if self._capacity.take_head():
                    if self._step_out(f"syncws head {conn.client}"):
                        return self._read_slow_head(conn)
                    self._capacity.give_head()
                try:
                    self._slow_heads.read(conn, FULL_HEAD_TIMEOUT)
                except RuntimeError as exc:
                    return self._close_without_thread(conn, exc)
        if isinstance(conn.parser, ParsedHead) and self._broken(conn, conn.parser.error):
            conn.close()
            return Outcome.CLOSED
        self._local.connector = None
        try:
            result = super().handle(conn)
        except BaseException:
            if self._local.connector is None:
                raise
            logger.exception("the thread of a session failed")
        connector = self._local.connector
        if connector is None:
            return result
        self._local.connector = None
        if not connector.was_session and connector.borrowed.wait():
            return Outcome.UPGRADE_OVER
        # The connection has been shut down: nobody waits for its peer.
        with contextlib.suppress(OSError):  # closed already
            conn.close()
        return Outcome.SESSION_OVER

    def _read_slow_head(self, conn: Any) -> Any:
        try:
            self._slow_heads.read(conn)
        except RuntimeError as exc:
            self._capacity.give_head()
            return self._close_without_thread(conn, exc)
        return Outcome.HEAD_READ

    def _close_without_thread(self, conn: Any, error: RuntimeError) -> Any:
        """Close a connection whose head can have no deadline."""
        conn.close()
        self._warn_closed("slow connections are closed: %s", error)
        return Outcome.CLOSED

    def _broken(self, conn: Any, error: Exception | None) -> bool:
        """Whether the peer broke the connection before there was a request.

        gunicorn would log most of these errors with a traceback, and a TLS handshake that
        failed has left it a socket without a descriptor. An error in a setting, such as a
        certificate that can not be read, leaves the socket as it was: it is gunicorn's.
        """
        if not isinstance(error, OSError) or isinstance(error, NoMoreData):
            return False
        if self.cfg.is_ssl and type(conn.sock) is socket.socket and conn.sock.fileno() != -1:
            return False
        logger.info("no request from %s: %s", conn.client or "unix", error)
        return True

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request; one that asks for a WebSocket outside the pool."""
        self._local.refusal = None
        if asks_for_websocket(req):
            reason = self._capacity.take_session()
            if reason is None and self._step_out(f"syncws session {conn.client}"):
                self._local.connector = WorkerConnector(conn)
            else:
                if reason is None:
                    self._capacity.give_session()
                else:
                    self._warn_refused("WebSocket requests are answered with 503: %s", reason)
                self._local.refusal = busy()  # the wrapper of the application answers
        return super().handle_request(req, conn)

    def handle_http2_request(self, req: Any, conn: Any, h2_conn: Any) -> Any:
        """Answer a request on a stream of HTTP/2, and never with a session: other streams
        use the socket too."""
        protocol = req.stream.get_pseudo_headers().get(":protocol")
        self._local.refusal = _OVER_HTTP2 if protocol == "websocket" else None
        return super().handle_http2_request(req, conn, h2_conn)

    def _step_out(self, name: str) -> bool:
        """Take this thread out of the pool; False if the system has no thread in its place."""
        try:
            self._pool.step_out(name)
        except RuntimeError as exc:
            self._warn_refused("WebSocket requests are answered with 503: %s", exc)
            return False
        return True

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
                # Bytes behind the request belong to the WebSocket. They are never parsed as
                # another HTTP request.
                connector.response.force_close()
                environ[CONNECTION_KEY] = connector
                return upgrading(environ, start_response)
            return application(environ, start_response)

        self.wsgi = with_connector

    # The main thread

    def init_process(self) -> None:
        # A worker shares the pages of memory of what the master has made, until one of the two
        # writes to a page. The garbage collector would write to nearly all of them.
        gc.freeze()
        # Else ssl_wrap_socket() would make the handshake, before conn.sock is the TLS
        # socket that a deadline can shut down.
        self.cfg.set("do_handshake_on_connect", False)
        if self.cfg.statsd_host:
            self._statsd = Statsd(self.log)
        super().init_process()

    def run(self) -> None:
        # The application is loaded, and the last hook before the first request has run.
        self.cfg: Any = Settings(self.cfg)
        super().run()

    def notify(self) -> None:
        """The heartbeat, once a second at least. gunicorn calls this for each connection, too."""
        if not self._heartbeat.is_due():
            return
        super().notify()
        if self._statsd is not None:
            self._statsd.report(stats())

    def accept(self, listener: Any) -> None:
        """Accept a connection, if there is room for it and the system has a descriptor."""
        self._count_ended()
        if self.nr_conns >= self.worker_connections:
            self._room_wanted = True
            return
        try:
            super().accept(listener)
        except OSError as exc:
            if exc.errno not in _NO_RESOURCES:
                raise
            self._room_wanted = True
            self._accept_again_at = monotonic() + ACCEPT_PAUSE
            self._warn_not_accepting("new connections wait, accept() failed: %s", exc)

    def enqueue_req(self, conn: Any) -> None:
        try:
            self._pool.submit(self._handle, conn)
        except RuntimeError as exc:  # the system has no thread, and the pool has none yet
            conn.close()
            self._count_closed()
            self._warn_closed("connections are closed: %s", exc)

    def finish_request(self, conn: Any, fs: Any) -> None:
        outcome = fs.outcome
        if isinstance(outcome, Outcome):
            self._finish(conn, outcome)
        elif outcome or fs.error is not None:
            super().finish_request(conn, fs)
        else:
            self._lingering.close(conn, self.poller)

    def _finish(self, conn: Any, outcome: Outcome) -> None:
        if outcome is Outcome.HEAD_READ:
            self._capacity.give_head()
            self.enqueue_req(conn)
        elif outcome is Outcome.UPGRADE_OVER:
            self._capacity.give_session()
            self._lingering.close(conn, self.poller)
        elif outcome is Outcome.SILENT and self.alive:
            self._wait_for_first_byte(conn)
        else:
            if outcome is Outcome.SILENT:
                conn.close()
            self._count_closed()

    def _count_closed(self) -> None:
        self.nr_conns -= 1

    def _count_ended(self) -> None:
        """The sessions that are over are no connections any more."""
        # A stop waits for the last session, and a connection may wait for room.
        at_once = not self.alive or self.nr_conns >= self.worker_connections
        self.nr_conns -= self._ends.take(at_once=at_once)

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """Wait for the next event, and no longer than until the next deadline here."""
        self._count_ended()
        if self.alive:
            if self._may_accept() is not self._accepting:
                self.set_accept_enabled(True)
        elif not self.nr_conns:
            timeout = 0.0  # there is nothing to wait for
        elif self.keepalived_conns and timeout is not None:
            # A stopping gunicorn 26.2 notices their deadlines only when something else happens.
            timeout = min(
                timeout, max(0.0, (self.keepalived_conns[0].timeout or 0.0) - monotonic())
            )
        timeout = self._goodbye.wait_at_most(self._lingering.wait_at_most(timeout))
        super().wait_for_and_dispatch_events(timeout)
        self._lingering.expire(self.poller)
        self._goodbye.go_on()
        if self._room_wanted:
            # Not while events are dispatched: one of them may be the closed connection's.
            self._room_wanted = False
            if self._idle.close_one():
                self._accept_again_at = 0.0

    def _may_accept(self) -> bool:
        if self._accept_again_at and monotonic() < self._accept_again_at:
            return False
        return self.nr_conns < self.worker_connections or self._idle.exist()

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
        super().set_accept_enabled(self._may_accept() if self.alive else enabled)
        if not self.alive and not self._draining:
            self._draining = True
            self._goodbye.begin(at_once=self._quitting)
            self._slow_heads.stop(0.0 if self._quitting else STOP_HEAD_TIMEOUT)
            for conn in self.pending_conns:
                conn.timeout = monotonic()
            self.murder_pending()
            if self._quitting:
                for conn in self.keepalived_conns:
                    conn.timeout = monotonic()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT and SIGQUIT: as SIGTERM, except for connections kept alive."""
        self.cfg.worker_int(self)
        self._quitting = True
        self._goodbye.hurry()
        self.handle_exit(sig, frame)


def _log_where_gunicorn_does(log: Any) -> None:
    """Unless the application has configured logging, for all or for syncws.

    ``dictConfig()`` and ``fileConfig()`` disable every logger that they do not name, unless
    they are told otherwise. The tracebacks of handlers would be lost.
    """
    logger.logger.disabled = False
    if not logger.hasHandlers():
        for handler in log.error_log.handlers:
            logger.logger.addHandler(handler)
        logger.setLevel(log.error_log.level)
