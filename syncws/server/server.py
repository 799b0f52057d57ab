"""``serve()``: a WSGI application, or a bare handler, on a thread per connection.

For scripts, tests and development; gunicorn is for production.

Threads: the *acceptor* accepts connections, and owns the listening socket; each
connection has a thread of its own, which answers its requests one after the
other and runs its session. ``Server``'s methods are for any thread.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, overload

from ..handlers import takes_session_first
from ..session.registry import Registry
from ..session.running import check_function
from ..upgrade.application import BUSY, WebSocketUpgrade, refuse
from ..upgrade.respond import carry_out_upgrades
from .connection import ServerConnection
from .listening import listen, stop_listening

if TYPE_CHECKING:
    from types import TracebackType

    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from ..handlers import Handler, RawHandler
    from ..options import RawRouteOptions, RouteOptions

__all__ = ["Server", "serve"]

logger = logging.getLogger("syncws")

#: Connections beyond the bound that are answered with 503; with still more of
#: them, a connection is closed without an answer.
REFUSED_AT_ONCE = 16

#: Seconds between two attempts to accept a connection when the system has no
#: descriptor left, and between two warnings that connections are refused.
ACCEPT_AGAIN_AFTER = 1.0
COMPLAIN_EVERY = 60.0

#: Seconds for a thread to end whose connection was cut.
CUT_TIMEOUT = 1.0


@overload
def serve(
    app_or_handler: WSGIApplication | Handler,
    host: str,
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    *,
    max_connections: int = 1000,
    raw: Literal[False] = False,
    **options: Unpack[RouteOptions],
) -> Server: ...
@overload
def serve(
    app_or_handler: RawHandler,
    host: str,
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    *,
    max_connections: int = 1000,
    raw: Literal[True],
    **options: Unpack[RawRouteOptions],
) -> Server: ...
def serve(
    app_or_handler: WSGIApplication | Handler | RawHandler,
    host: str,
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    *,
    max_connections: int = 1000,
    **options: Any,
) -> Server:
    """Serve a WSGI application, or a handler, from now on::

        with syncws.serve(handler, "127.0.0.1", 0) as server:
            ...  # ws://127.0.0.1:{server.port}/ is served

        syncws.serve(app, "127.0.0.1", 8000).serve_forever()

    A callable with one required positional parameter, the session, is a
    handler: it is served on every path, with ``options`` (those of
    :class:`Options`). One with two, ``environ`` and ``start_response``, is a
    WSGI application, as is a :class:`WebSocketUpgrade`; it takes no options,
    since its routes have their own.

    ``host`` is a name or an address to listen on, ``""`` for all IPv4 ones, or
    ``"unix:/path"`` for a Unix socket. ``port`` 0 has the system choose one.
    ``ssl_context`` is a server's context: everything is TLS then. More than
    ``max_connections`` at once are answered with 503.

    Raises ``TypeError`` for what is neither, or could be either, and for
    options beside an application; ``TypeError`` or ``ValueError`` for other
    arguments that can not be; ``OSError`` when the address can not be listened
    on. May be called from any thread.
    """
    application = _application(app_or_handler, options)
    _check_context(ssl_context)
    if not isinstance(max_connections, int) or max_connections < 1:
        raise ValueError(f"max_connections is a number of at least 1, not {max_connections!r}")
    listener = listen(host, port)
    try:
        return Server(carry_out_upgrades(application), listener, ssl_context, max_connections)
    except BaseException:
        stop_listening(listener)
        raise


class Server:
    """A running server, made by :func:`serve`. All of it is for any thread.

    As a context manager it is shut down at the end of the block.
    """

    #: The port listened on; 0 for a Unix socket.
    port: int

    def __init__(
        self,
        application: WSGIApplication,
        listener: socket.socket,
        ssl_context: ssl.SSLContext | None,
        max_connections: int,
    ) -> None:
        self._application = application
        self._listener = listener
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        if listener.family == socket.AF_UNIX:
            self.port = 0
            name = "localhost", 80  # PEP 3333 wants something
        else:
            name = listener.getsockname()[:2]
            self.port = name[1]
        self._base_environ: WSGIEnvironment = {
            "SERVER_SOFTWARE": "syncws",
            "SERVER_NAME": name[0],
            "SERVER_PORT": str(name[1]),
            "wsgi.url_scheme": "http" if ssl_context is None else "https",
        }
        self._sessions = Registry()
        # Guards the three below. Held for a few instructions, never over I/O.
        self._lock = threading.Lock()
        self._connections: set[ServerConnection] = set()
        self._stopping = threading.Event()
        self._deadline = math.inf  # for all to end, when stopping
        self._complained_at = -COMPLAIN_EVERY  # the acceptor's
        with contextlib.ExitStack() as stack:  # of what is closed again if something is missing
            # Closing the second wakes the acceptor, which waits for the first.
            self._wake, self._waker = socket.socketpair()
            stack.callback(self._wake.close)
            stack.callback(self._waker.close)
            # Made here: the acceptor could not make it when no descriptor is left.
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._selector.register(self._wake, selectors.EVENT_READ)
            self._selector.register(listener, selectors.EVENT_READ)
            self._acceptor = threading.Thread(
                target=self._accept, name=f"syncws accept {self.port}", daemon=True
            )
            self._acceptor.start()
            stack.pop_all()

    def serve_forever(self) -> None:
        """Wait until the server is shut down, or Ctrl-C, which shuts it down.

        The server runs with or without this. A second Ctrl-C raises
        ``KeyboardInterrupt``, without waiting for handlers any longer.
        """
        with contextlib.suppress(KeyboardInterrupt):
            self._stopping.wait()
        self.shutdown()

    def shutdown(self, timeout: float = 30.0) -> None:
        """Stop, and wait for handlers and requests to end.

        No connection is accepted any more. Every session gets a Close with
        1001 at once; requests being answered may go on. After ``timeout``
        seconds all that is left is cut: whatever waits for a peer wakes up.
        A handler that does something else is warned of in the log and left
        alone: no thread can be ended from outside.

        Called again, it waits with the ``timeout`` of the first call. When a
        handler calls this, its own thread is not waited for.
        """
        with self._lock:
            if not self._stopping.is_set():
                self._deadline = monotonic() + timeout
                self._stopping.set()
                self._waker.close()
        self._acceptor.join()
        with self._lock:
            connections = set(self._connections)
        self._sessions.drain()
        for connection in connections:
            connection.finish()
        others = {c for c in connections if c is not threading.current_thread()}
        left = _join(others, self._deadline)
        for connection in left:
            connection.cut()
        left = _join(left, monotonic() + CUT_TIMEOUT)
        for connection in left:
            self._remove(connection)
            logger.warning("%s has not ended in time, and is left to itself", connection.name)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    # The acceptor

    def _accept(self) -> None:
        # The loop opens no descriptor but the connections': there may be none left.
        with self._selector as selector, self._wake:
            while not self._stopping.is_set():
                selector.select()
                try:
                    sock, address = self._listener.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    continue  # woken, or the peer has left
                except OSError as exc:
                    self._complain(f"no connection can be accepted: {exc}")
                    selector.unregister(self._listener)
                    selector.select(ACCEPT_AGAIN_AFTER)
                    selector.register(self._listener, selectors.EVENT_READ)
                    continue
                try:
                    self._start(sock, address)
                except Exception:  # nothing that one connection does ends the server
                    logger.exception("the connection from %s could not be served", address)
                    sock.close()
        stop_listening(self._listener)

    def _start(self, sock: socket.socket, address: Any) -> None:
        """Give a connection a thread, or do without the connection."""
        with self._lock:
            beyond = len(self._connections) - self._max_connections
        if beyond >= 0:
            self._complain(f"{self._max_connections} are open, which is the bound")
        if beyond >= REFUSED_AT_ONCE:
            sock.close()
            return
        environ = {**self._base_environ, "REMOTE_ADDR": "", "REMOTE_PORT": ""}
        if address:  # a Unix socket's peer has none
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address[0], str(address[1])
        try:
            if self._ssl_context is not None:
                sock = self._ssl_context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            connection = ServerConnection(
                sock,
                environ,
                self._application if beyond < 0 else partial(refuse, BUSY),
                self._sessions,
                self._remove,
                only_one_request=beyond >= 0,
            )
        except OSError:  # the peer has gone already
            sock.close()
            return
        with self._lock:
            self._connections.add(connection)
        try:
            connection.start()
        except RuntimeError as exc:
            self._complain(str(exc))
            sock.close()
            self._remove(connection)

    def _remove(self, connection: ServerConnection) -> None:
        """A connection has ended. In its own thread."""
        with self._lock:
            self._connections.discard(connection)

    def _complain(self, why: str) -> None:
        """Once in a while: how often is for the peers to say."""
        now = monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning("connections are refused: %s", why)


def _join(connections: set[ServerConnection], deadline: float) -> set[ServerConnection]:
    """Wait for connections to end; gives those that have not."""
    for connection in connections:
        connection.join(min(max(0.0, deadline - monotonic()), threading.TIMEOUT_MAX))
    return {connection for connection in connections if connection.is_alive()}


def _application(
    app_or_handler: WSGIApplication | Handler | RawHandler, options: dict[str, Any]
) -> WSGIApplication:
    check_function(app_or_handler)
    # The signature of an upgrade is that of its handler (functools.wraps).
    required = 2 if isinstance(app_or_handler, WebSocketUpgrade) else _required(app_or_handler)
    if required == 1 or takes_session_first(app_or_handler):
        handler: Any = app_or_handler
        return WebSocketUpgrade(handler, **options)
    if required != 2:
        raise TypeError(
            f"{app_or_handler!r} is neither a handler, with the session as its one required "
            "parameter, nor a WSGI application, with environ and start_response: wrap a handler "
            "in syncws.websocket(), and an application in a function with these two"
        )
    if options:
        raise TypeError(
            f"{', '.join(options)}: a WSGI application takes no options here; give them to its "
            "routes, or to syncws.websocket()"
        )
    application: Any = app_or_handler
    return application  # type: ignore[no-any-return]  # known by its signature only


def _required(function: Callable[..., Any]) -> int | None:
    """How many positional parameters have to be given; None when nobody can tell."""
    # What a decorator calls with an argument of its own has one more than the
    # decorated function shows; that with "*args" shows those of the one it calls.
    for follow_wrapped in (False, True):
        try:
            signature = inspect.signature(function, follow_wrapped=follow_wrapped)
        except (TypeError, ValueError):  # of a function written in C
            return None
        parameters = signature.parameters.values()
        required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        if not any(p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY) for p in required):
            return len(required)
    return None


def _check_context(ssl_context: ssl.SSLContext | None) -> None:
    if ssl_context is None:
        return
    if not isinstance(ssl_context, ssl.SSLContext):
        raise TypeError(f"ssl_context is an ssl.SSLContext, not {ssl_context!r}")
    if ssl_context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "ssl_context is a client's: make one with "
            "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), and load_cert_chain()"
        )
