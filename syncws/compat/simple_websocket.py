"""simple-websocket's ``Server`` and ``Client``::

    from syncws.compat.simple_websocket import Client, ConnectionClosed, Server

The parameters and the meanings are simple-websocket's. The page
``docs/coming-from/compat-simple-websocket.md`` lists the differences.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wsproto.events import Request

from ..client.connect import connect as open_client
from ..close import CloseReason
from ..errors import HandshakeError
from ..options import Options
from ..system.logs import logger
from ..upgrade.application import ROUTE_KEY, note_refusal
from ..upgrade.early import EARLY_KEY, open_on_socket, stock_connector
from ..upgrade.handshake import Reject, negotiate, same_origin
from .connection import PING_INTERVAL, Base, session_options
from .errors import ConnectionClosed, ConnectionError, SimpleWebsocketError

if TYPE_CHECKING:
    import ssl

    from _typeshed.wsgi import WSGIEnvironment

    from ..session.session import Session

__all__ = ["Client", "ConnectionClosed", "ConnectionError", "Server", "SimpleWebsocketError"]

#: Options of syncws that a session of this kind can not have, and what to write instead.
_NOT_HERE = {
    "raw": "write a handler for @syncws.websocket(raw=True)",
    "refuse": "wrap the application in syncws.WebSocketMiddleware(application, refuse='close')",
}

_origin_warning = threading.Lock()  # taken for ever by the one warning


class Server(Base):
    """The server's side of a WebSocket, opened from the ``environ`` of a WSGI request.

    ``subprotocols`` is a name or a list of names. ``ping_interval`` is in seconds (None for
    no pings), ``max_message_size`` in bytes (None for no limit). ``options`` are those of
    :class:`syncws.Options`; ``origins`` is ``"*"`` unless given. ``receive_bytes``,
    ``thread_class``, ``event_class`` and ``selector_class`` are accepted and not used.

    Raises ``ConnectionError`` for a malformed handshake, with the HTTP status in
    ``status_code``, and ``RuntimeError`` on a server that syncws can not run on. The
    request's thread makes it.
    """

    is_server = True

    _conclude: Callable[[CloseReason], None] | None

    def __init__(
        self,
        environ: WSGIEnvironment,
        subprotocols: str | list[str] | None = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = PING_INTERVAL,
        max_message_size: int | None = None,
        thread_class: Any = None,
        event_class: Any = None,
        selector_class: Any = None,
        **options: Any,
    ) -> None:
        self._describe(environ, subprotocols)
        environ.setdefault(ROUTE_KEY, _route(environ) or type(self).__qualname__)
        checked = server_options(ping_interval, max_message_size, options, self._choose)
        warn_of_origin(environ, options)
        early = environ.get(EARLY_KEY)
        connector = stock_connector(environ) if early is None else None
        answer = negotiate(environ, checked)
        if isinstance(answer, Reject):
            opened: Any = answer
        elif early is not None:
            opened = early.open(answer, checked)
        else:
            assert connector is not None
            opened = open_on_socket(connector, answer, checked, environ)
        if isinstance(opened, Reject):
            note_refusal(opened, environ)
            error = _refused(opened)
            if early is not None:
                early.refused(opened, (500, getattr(error, "status_of_django", 500)))
            raise error
        # Only on a server that is not syncws's own: ends the session for good.
        self._conclude = None if early is not None else opened.conclude
        self._thread = threading.get_ident()
        self._adopt(opened.session, receive_bytes, max_message_size)

    @classmethod
    def accept(cls, environ: WSGIEnvironment, *args: Any, **options: Any) -> Server:
        """Make a server; the arguments are those of the class."""
        return cls(environ, *args, **options)

    @classmethod
    def over(cls, session: Session) -> Server:
        """Make a server of a session that is open already."""
        self = cls.__new__(cls)
        self._describe(session.environ, None)
        self._conclude, self._thread = None, threading.get_ident()
        self._adopt(session, 4096, None)
        return self

    def choose_subprotocol(self, request: Request) -> str | None:
        """Return the subprotocol for ``request`` (wsproto's), or None. A subclass may
        override it; this one returns the first of the peer's that the server speaks."""
        return next((name for name in request.subprotocols if name in self.subprotocols), None)

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """See :meth:`Base.receive`."""
        try:
            return super().receive(timeout)
        except ConnectionClosed:
            self._conclude_here()
            raise

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """See :meth:`Base.close`. On stock gunicorn and the development server, the
        request's thread waits for the peer's Close, for ``close_timeout`` seconds at most:
        the server uses the socket again when the request is over."""
        try:
            super().close(reason, message)
        finally:
            self._conclude_here()

    def _conclude_here(self) -> None:
        if self._conclude is not None and threading.get_ident() == self._thread:
            conclude, self._conclude = self._conclude, None
            conclude(CloseReason(1000, "", "local"))

    def _describe(self, environ: WSGIEnvironment, subprotocols: str | list[str] | None) -> None:
        self.environ = environ
        self.subprotocols = [subprotocols] if isinstance(subprotocols, str) else subprotocols or []
        #: ``"werkzeug"``, ``"gunicorn"`` or ``"unknown"``.
        self.mode = next(
            (name for name in ("werkzeug", "gunicorn") if f"{name}.socket" in environ), "unknown"
        )
        #: The connection's socket, or None. Only look at it: the session reads and writes it.
        self.sock = environ.get(f"{self.mode}.socket")

    def _choose(self, offered: Any) -> str | None:
        names = {"HTTP_" + name for name in ("HOST", "SEC_WEBSOCKET_PROTOCOL")}
        headers = [
            (key[5:].replace("_", "-").lower().encode(), str(value).encode("latin-1"))
            for key, value in self.environ.items()
            if key.startswith("HTTP_") and key not in names
        ]
        target = self.environ.get("PATH_INFO", "/")
        if self.environ.get("QUERY_STRING"):
            target += "?" + self.environ["QUERY_STRING"]
        return self.choose_subprotocol(
            Request(
                host=self.environ.get("HTTP_HOST", ""),
                target=target,
                subprotocols=list(offered),
                extra_headers=headers,
            )
        )


class Client(Base):
    """A client's connection to ``url``.

    ``headers`` is a mapping or a list of pairs. The other parameters are those of
    ``Server``, and ``ssl_context``. ``options`` are those of :func:`syncws.connect`; unless
    they are given, no proxy is used and no redirect is followed.

    Raises ``ConnectionError`` if the server does not accept, ``TimeoutError`` after
    ``open_timeout`` (10 seconds unless given), and another ``OSError`` if there is no
    connection. Any thread may make it.
    """

    def __init__(
        self,
        url: str,
        subprotocols: str | list[str] | None = None,
        headers: Any = None,
        receive_bytes: int = 4096,
        ping_interval: float | None = PING_INTERVAL,
        max_message_size: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        thread_class: Any = None,
        event_class: Any = None,
        **options: Any,
    ) -> None:
        parts = urlsplit(url)
        secure = parts.scheme in ("https", "wss")
        self.host = parts.hostname
        self.port = parts.port or (443 if secure else 80)
        self.path = parts.path + ("?" + parts.query if parts.query else "")
        self.subprotocols = [subprotocols] if isinstance(subprotocols, str) else subprotocols or []
        try:
            session = open_client(
                parts._replace(scheme="wss" if secure else "ws", fragment="").geturl(),
                headers=headers or (),
                subprotocols=self.subprotocols,
                ssl_context=ssl_context if secure else None,
                **{
                    "proxy": None,
                    "redirects": 0,
                    **session_options(ping_interval, max_message_size, options),
                },
            )
        except HandshakeError as exc:
            raise ConnectionError(exc.status if exc.status not in (None, 101) else 400) from exc
        #: The connection's socket. Only look at it: the session reads and writes it.
        self.sock = session._socket
        self._adopt(session, receive_bytes, max_message_size)

    @classmethod
    def connect(cls, url: str, *args: Any, **options: Any) -> Client:
        """Make a client; the arguments are those of the class."""
        return cls(url, *args, **options)


def server_options(
    ping_interval: float | None,
    max_message_size: int | None,
    options: dict[str, Any],
    subprotocols: Any,
) -> Options:
    """The options of a session with simple-websocket's defaults.

    Raises ``TypeError`` for options that have no effect here.
    """
    for name in _NOT_HERE.keys() & options:
        raise TypeError(
            f"Server() and SOCK_SERVER_OPTIONS take no option {name!r}: {_NOT_HERE[name]}"
        )
    return Options(
        **{
            "origins": "*",
            "subprotocols": subprotocols,
            **session_options(ping_interval, max_message_size, options),
        }
    )


def warn_of_origin(environ: WSGIEnvironment, options: dict[str, Any]) -> None:
    """Once a process: say that pages of other sites may connect, and how to end it."""
    if "origins" in options or same_origin(environ) or not _origin_warning.acquire(blocking=False):
        return
    logger.warning(
        "a page of %r opens a WebSocket here, as simple-websocket allows: to let only pages of "
        "this host in, give the option origins=None, or list the others, in Server(…) or in "
        "Flask's SOCK_SERVER_OPTIONS; origins='*' allows all of them without this warning",
        environ.get("HTTP_ORIGIN"),
    )


def _route(environ: WSGIEnvironment) -> str | None:
    """What metrics call the route: Flask's rule, or None. Flask notes its request here."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return None if rule is None else str(rule)


def _refused(refusal: Reject) -> ConnectionError:
    """Make the exception. It is one of Flask's too, which answers with its status, and one of
    Django's for a page that does not exist: both log no traceback."""
    bases: list[Any] = [ConnectionError]
    members: dict[str, Any] = {}
    if "werkzeug" in sys.modules:
        bases.append(import_module("werkzeug.exceptions").HTTPException)
        response: Any = import_module("werkzeug.wrappers").Response
        members["code"] = refusal.code
        members["description"] = refusal.message
        members["response"] = response(refusal.body, refusal.status, headers=refusal.headers)
    if "django" in sys.modules:
        bases.append(import_module("django.http").Http404)
        members["status_of_django"] = 404
    members["__init__"] = ConnectionError.__init__
    error: ConnectionError = type("RefusedError", tuple(bases), members)(refusal.code)
    return error
