"""A client for applications under test: opens sessions with them."""

from __future__ import annotations

import contextlib
import copy
import socket
import sys
from collections.abc import Mapping, Sequence
from http.cookies import Morsel
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from ..client.handshake import ClientHandshake, Opened
from ..client.url import parse_url
from ..errors import HandshakeError
from ..options import Options
from ..protocol.headers import Headers, check_headers
from ..upgrade.respond import carry_out_upgrades
from . import for_django
from .application import Application
from .clock import active_clock
from .peer import Peer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from ..protocol.deflate import Deflate

__all__ = ["WebSocketClient"]


class WebSocketClient:
    """Opens sessions with a WSGI application::

        with WebSocketClient(app).connect("/echo") as peer:
            ...

    ``headers`` are sent with each request. ``environ`` is added to each environ,
    as a server or a proxy would do. ``cookies`` is a mapping of names to values,
    or a test client of Flask, Werkzeug or Django: log in there, and its cookies
    at that moment are sent when you open a session. ``host`` is the Host. If it
    is None, it is that of Django's test client, ``"testserver"`` for a Django
    application, and ``"localhost"`` for any other. ``secure`` makes it ``https``.

    ``timeout`` is how many real seconds each call waits at most. With
    ``raise_exceptions=False``, an exception of the handler is not raised in the
    test: the test sees the session closed with 1011, as a real client does. If a
    Django view raises, the test sees the page that Django answers with.

    Any thread may call every method. Connections do not depend on each other.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        headers: Headers = (),
        cookies: Any = None,
        environ: WSGIEnvironment | None = None,
        host: str | None = None,
        secure: bool = False,
        timeout: float = 5.0,
        raise_exceptions: bool = True,
    ) -> None:
        if not callable(app):
            raise TypeError(f"a WSGI application is a callable, not {app!r}")
        self._app = carry_out_upgrades(app)
        self._headers = check_headers(headers, frozenset())
        self._cookies = cookies
        self._environ = environ or {}
        self._host = host or for_django.default_host(app, cookies) or "localhost"
        self._secure = secure
        self._timeout = timeout
        self._raise_exceptions = raise_exceptions
        self._peers: list[Peer] = []

    def connect(
        self,
        path: str,
        *,
        headers: Headers = (),
        subprotocols: Sequence[str] = (),
        compression: Deflate | Literal["deflate"] | None = None,
        answer_pings: bool = True,
        answer_close: bool = True,
    ) -> Peer:
        """Open a session at ``path``, which may have a query.

        ``subprotocols`` and ``compression`` are offered. ``answer_pings`` and
        ``answer_close`` say whether the peer answers pings and the Close.

        Raises ``HandshakeError``, with ``status``, ``headers`` and ``body``, if the
        application refuses. Raises the application's own exception, if there is one,
        ``TimeoutError`` if it does not answer in time, and ``ValueError`` or
        ``TypeError`` for invalid arguments.
        """
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash: {path!r} does not")
        options = Options(subprotocols=subprotocols, compression=compression)
        scheme = "https" if self._secure else "http"
        url = parse_url(f"{'wss' if self._secure else 'ws'}://{self._host}{path}")
        given = [*self._headers, *check_headers(headers, frozenset())]
        cookies = _cookie_header(self._cookies, f"{scheme}://{self._host}", path)
        if cookies:
            given.append(("Cookie", cookies))
        handshake = ClientHandshake(url, options, given, subprotocols)
        environ = {
            "SERVER_SOFTWARE": "syncws.testing",
            "SERVER_NAME": url.host,
            "SERVER_PORT": str(url.port),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "49152",
            "wsgi.url_scheme": scheme,
            **self._environ,
        }
        theirs, ours = socket.socketpair()
        application = Application(self._app, theirs, environ, path, active_clock())
        application.start()
        try:
            opened = self._shake_hands(handshake, ours, application)
            application.opened.wait(self._timeout)
        except BaseException:
            ours.close()
            application.join(self._timeout)
            raise
        peer = Peer(
            ours,
            opened,
            application,
            timeout=self._timeout,
            raise_exceptions=self._raise_exceptions,
            answer_pings=answer_pings,
            answer_close=answer_close,
        )
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        """Close all sessions that were opened. Raises what ``Peer.close()`` raises."""
        with contextlib.ExitStack() as stack:
            while self._peers:
                stack.callback(self._peers.pop().close)

    def _shake_hands(
        self, handshake: ClientHandshake, sock: socket.socket, application: Application
    ) -> Opened:
        deadline = monotonic() + self._timeout
        sock.settimeout(self._timeout)
        try:
            sock.sendall(handshake.request)
            opened = None
            while opened is None:
                sock.settimeout(max(0.001, deadline - monotonic()))
                opened = handshake.receive_data(sock.recv(65536))
        except TimeoutError:
            raise TimeoutError(
                f"there was no answer within {self._timeout} s; {application.whereabouts()}"
            ) from None
        except (HandshakeError, ConnectionError):
            sock.close()  # the application may be answering at length
            application.join(self._timeout)
            error = application.error
            if error is None and self._raise_exceptions:
                error = application.answered_error
            if error is not None:
                raise error from None
            raise
        sock.settimeout(None)
        return opened


def _cookie_header(source: Any, base_url: str, path: str) -> str:
    """The Cookie header that a test client would send. ``source`` may be its cookies."""
    werkzeug_test = sys.modules.get("werkzeug.test")
    if werkzeug_test is not None and isinstance(source, werkzeug_test.Client):
        return _werkzeugs(source, base_url, path)
    cookies = getattr(source, "cookies", source)
    if cookies is None:
        return ""
    if not isinstance(cookies, Mapping):
        raise TypeError(
            f"cookies are a mapping, or Flask's, Werkzeug's or Django's test client, not {source!r}"
        )
    return "; ".join(
        f"{name}={value.coded_value if isinstance(value, Morsel) else value}"
        for name, value in cookies.items()
    )


def _werkzeugs(client: Any, base_url: str, path: str) -> str:
    """Ask Werkzeug's client what it would send: each of its cookies has a domain and a path."""
    from werkzeug.test import Client

    sent: list[str] = []

    def see(environ: WSGIEnvironment, start_response: Any) -> list[bytes]:
        sent.append(environ.get("HTTP_COOKIE", ""))
        start_response("200 OK", [])
        return []

    probe = copy.copy(client)
    probe.application = see
    Client.open(probe, path, base_url=base_url)
    return sent[0]
