"""``serve()``: a WSGI application, or a bare handler, with a thread for each connection.

It is for scripts, tests and development. Use gunicorn in production.

Threads: the *acceptor* owns the listening socket and accepts connections. Each connection
has its own thread, which answers its requests one after the other and runs its session.
Any thread may call ``Server``'s methods.
"""

from __future__ import annotations

import contextlib
import inspect
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, overload

from ..handlers import takes_session_first
from ..options import check_timeout
from ..session.registry import REGISTRY
from ..session.running import check_function
from ..system.deadline import Deadline
from ..system.latch import LOOK_FOR_SIGNALS, Latch
from ..system.logs import logger
from ..upgrade.application import WebSocketUpgrade, busy, refuse
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

#: How many connections beyond the bound are answered with 503. Further ones are closed
#: without a response.
REFUSED_AT_ONCE = 16

#: Seconds between two attempts to accept a connection if the system has no descriptor
#: left, and seconds between two warnings that connections are refused.
ACCEPT_AGAIN_AFTER = 1.0
COMPLAIN_EVERY = 60.0

#: Seconds for a thread to end after its connection was cut.
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
    """Serve a WSGI application or a handler::

        with syncws.serve(handler, "127.0.0.1", 0) as server:
            ...  # ws://127.0.0.1:{server.port}/ is served

        syncws.serve(app, "127.0.0.1", 8000).serve_forever()

    A callable with one required positional parameter, the session, is a handler. It is
    served on every path, with ``options`` (those of :class:`Options`). A callable with two,
    ``environ`` and ``start_response``, is a WSGI application, and so is a
    :class:`WebSocketUpgrade`. An application takes no options here: its routes have their
    own.

    ``host`` is a name or an address to listen on, ``""`` for all IPv4 addresses, or
    ``"unix:/path"`` for a Unix socket. With ``port`` 0 the system chooses a free port. With
    ``ssl_context``, a server's context, the server speaks TLS only. If more than
    ``max_connections`` are open, further requests are answered with 503.

    Raises ``TypeError`` if the server can not tell an application from a handler, and for
    options beside an application; ``TypeError`` or ``ValueError`` for other invalid
    arguments; ``OSError`` if the system can not listen on the address; ``RuntimeError`` if
    no thread can be started. Any thread may call it.
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
    """A running server, made by :func:`serve`. Any thread may use it.

    As a context manager, it shuts down at the end of the block.
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
        # Guards the next three attributes. Held for a few instructions, never during I/O.
        # Reentrant, because a signal handler may call shutdown() in a thread that is in it.
        self._lock = threading.RLock()
        self._connections: set[ServerConnection] = set()
        self._stopping = Latch()
        self._deadline = Deadline(None)  # for all connections to end, after shutdown()
        self._complained_at = -COMPLAIN_EVERY  # used by the acceptor only
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
        """Wait until the server is shut down. Ctrl-C shuts it down.

        The server runs without this method too. A second Ctrl-C raises
        ``KeyboardInterrupt`` and does not wait for handlers any longer.
        """
        with contextlib.suppress(KeyboardInterrupt):
            self._stopping.wait()
        self.shutdown()

    def shutdown(self, timeout: float = 30.0) -> None:
        """Stop, and wait for handlers and requests to end.

        The server accepts no more connections. Every session gets a Close with 1001 at once.
        Requests that are being answered go on. After ``timeout`` seconds the server cuts the
        connections that are left, which wakes threads that wait for a peer. A handler that
        still goes on is left alone, with a warning in the log: Python can not end a thread
        from outside.

        A second call waits with the ``timeout`` of the first. If a handler calls this, the
        server does not wait for the handler's own thread. Any thread may call this, and so may
        a signal handler.

        ``timeout`` 0 cuts everything at once; ``math.inf`` waits for ever. Raises
        ``TypeError`` or ``ValueError`` for a timeout that is not a number.
        """
        timeout = check_timeout("timeout", timeout)
        with self._lock:
            if not self._stopping.is_set():
                self._deadline = Deadline(timeout)
                self._stopping.set()
                self._waker.close()
        self._acceptor.join()
        with self._lock:
            connections = set(self._connections)
        REGISTRY.drain(self)
        for connection in connections:
            connection.finish()
        others = {c for c in connections if c is not threading.current_thread()}
        left = _join(others, self._deadline)
        for connection in left:
            connection.cut()
        left = _join(left, Deadline(CUT_TIMEOUT))
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
        with contextlib.ExitStack() as stack:
            stack.callback(stop_listening, self._listener)
            stack.enter_context(self._wake)
            selector = stack.enter_context(self._selector)
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

    def _start(self, sock: socket.socket, address: Any) -> None:
        """Give a connection a thread, or close it."""
        with self._lock:
            beyond = len(self._connections) - self._max_connections
        if beyond >= 0:
            self._complain(f"{self._max_connections} are open, which is the bound")
        if beyond >= REFUSED_AT_ONCE:
            sock.close()
            return
        environ = {**self._base_environ, "REMOTE_ADDR": "", "REMOTE_PORT": ""}
        if address:  # the peer of a Unix socket has no address
            environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address[0], str(address[1])
        try:
            if self._ssl_context is not None:
                sock = self._ssl_context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            connection = ServerConnection(
                sock,
                environ,
                self._application if beyond < 0 else partial(refuse, busy()),
                self,
                self._remove,
                only_one_request=beyond >= 0,
            )
        except OSError:  # the peer has gone
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
        """Forget a connection that has ended. The connection's thread calls this."""
        with self._lock:
            self._connections.discard(connection)

    def _complain(self, why: str) -> None:
        """Warn, but not each time: peers decide how often there is a reason to."""
        now = monotonic()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.warning("connections are refused: %s", why)


def _join(connections: set[ServerConnection], deadline: Deadline) -> set[ServerConnection]:
    """Wait for connections to end. Returns those that have not."""
    for connection in connections:
        while connection.is_alive() and not deadline.passed:
            connection.join(min(deadline.left, LOOK_FOR_SIGNALS))
    return {connection for connection in connections if connection.is_alive()}


def _application(
    app_or_handler: WSGIApplication | Handler | RawHandler, options: dict[str, Any]
) -> WSGIApplication:
    check_function(app_or_handler)
    # functools.wraps() gives an upgrade the signature of its handler.
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
    """Return how many positional parameters are required, or None if that can not be known."""
    # A decorated function may get an argument from its decorator, so the wrapper's own
    # signature comes first. If the wrapper takes *args, the wrapped function's counts.
    for follow_wrapped in (False, True):
        try:
            signature = inspect.signature(function, follow_wrapped=follow_wrapped)
        except (TypeError, ValueError):  # some functions written in C have no signature
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
            "ssl_context is a client's context: make a server's with "
            "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) and load_cert_chain()"
        )
