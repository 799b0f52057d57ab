"""From a WSGI request to a session, its handler and its end.

The upgrade is lazy: it begins when the WSGI application made here is called. If the
framework or a middleware answers first (401, redirect, 404), the client gets that HTTP
response and no WebSocket opens.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from ..close import CloseReason
from ..handlers import Handler, RawHandler
from ..options import Options
from ..session.common import CommonSession
from ..session.frame_log import begin_frame_log
from ..session.opening import Opening
from ..session.raw import RawSession
from ..session.registry import REGISTRY
from ..session.running import check_handler, run_handler
from ..session.session import Session
from ..system.logs import logger
from .clients import admit
from .close_codes import as_reason, close_code
from .connectors import connector_for
from .handshake import (
    Accept,
    Reject,
    is_websocket_request,
    negotiate,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from ..options import RawRouteOptions, RouteOptions
    from .connectors import Connector

__all__ = [
    "REFUSED_KEY",
    "ROUTE_KEY",
    "WebSocketUpgrade",
    "application_instead",
    "busy",
    "end_response",
    "make_session",
    "note_refusal",
    "open_session",
    "refuse",
    "websocket",
]

#: The bounds of Retry-After, in seconds. Each client gets a number of its own, so that clients
#: refused together do not come back together.
RETRY_AFTER = (5, 15)


def busy() -> Reject:
    """The answer if there is no thread, or no room, for another session."""
    seconds = str(random.randint(*RETRY_AFTER))
    return Reject(503, "The server can not take more sessions now.", [("Retry-After", seconds)])


#: The key of the environ for a list of the statuses of refused handshakes, if somebody wants to
#: know: with ``refuse="close"`` too, a page of a foreign origin gets no session. 101 stands for a
#: session that the program has opened itself, in the middle of its request.
REFUSED_KEY = "syncws.refused"


#: Refusals that are not about the handshake: there are too many sessions now.
_LATER = frozenset({429, 503})

#: The key in the environ of what metrics call the route: a pattern, never the path itself, of which
#: there may be any number.
ROUTE_KEY = "syncws.route"


class WebSocketUpgrade:
    """A WSGI application that opens a session and runs ``handler`` over it.

    ``handler`` is called with the :class:`Session` (with ``raw=True``: a
    :class:`RawSession`), in the thread that runs the request. When it returns, the session
    is closed with 1000; a raw session ends without a Close. When it raises, the error is
    logged once and the session is closed with 1011. The session's own ``ConnectionClosed``
    is not an error.

    ``options`` are those of :class:`Options`. Raises ``TypeError`` or ``ValueError`` for
    invalid options, and for a handler that is ``async``, a generator, or an application
    already.

    A request that can not be upgraded is answered with an HTTP status and one line that
    says why. On a server that gives no access to its sockets, a call raises
    ``RuntimeError``.
    """

    #: For the error when this is taken for a handler.
    _syncws_made_by = "@syncws.websocket"

    @overload
    def __init__(
        self, handler: Handler, *, raw: Literal[False] = False, **options: Unpack[RouteOptions]
    ) -> None: ...
    @overload
    def __init__(
        self, handler: RawHandler, *, raw: Literal[True], **options: Unpack[RawRouteOptions]
    ) -> None: ...
    def __init__(self, handler: Callable[..., Any], **options: Any) -> None:
        check_handler(handler)
        self.handler = handler
        self.options = Options(**options)
        functools.update_wrapper(self, handler, updated=())

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        instead = application_instead(environ, self.options)
        if instead is not None:
            return instead(environ, start_response)
        answer = negotiate(environ, self.options)
        if isinstance(answer, Reject):
            return refuse(answer, environ, start_response)
        return open_session(answer, self.handler, self.options, environ, start_response)


@overload
def websocket(
    handler: Handler, /, *, raw: Literal[False] = False, **options: Unpack[RouteOptions]
) -> WebSocketUpgrade: ...
@overload
def websocket(
    handler: RawHandler, /, *, raw: Literal[True], **options: Unpack[RawRouteOptions]
) -> WebSocketUpgrade: ...
@overload
def websocket(
    *, raw: Literal[False] = False, **options: Unpack[RouteOptions]
) -> Callable[[Handler], WebSocketUpgrade]: ...
@overload
def websocket(
    *, raw: Literal[True], **options: Unpack[RawRouteOptions]
) -> Callable[[RawHandler], WebSocketUpgrade]: ...
def websocket(
    handler: Callable[..., Any] | None = None, /, **options: Any
) -> WebSocketUpgrade | Callable[..., WebSocketUpgrade]:
    """Make a WSGI application of a handler. Write ``@websocket``, ``@websocket(**options)`` or
    ``websocket(handler, **options)``. See :class:`WebSocketUpgrade`."""
    if handler is not None:
        return WebSocketUpgrade(handler, **options)
    return lambda handler: WebSocketUpgrade(handler, **options)


def application_instead(environ: WSGIEnvironment, options: Options) -> WSGIApplication | None:
    """Return the application that answers this plain request, or None."""
    instead = options.on_non_websocket_request
    return instead if callable(instead) and not is_websocket_request(environ) else None


def refuse(
    answer: Reject, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer with an ordinary HTTP response."""
    note_refusal(answer, environ)
    start_response(answer.status, answer.headers)
    return [answer.body]


def end_response(result: Iterable[bytes]) -> None:
    """Tell an application that its response has ended (PEP 3333)."""
    close = getattr(result, "close", None)
    if callable(close):
        close()


def note_refusal(answer: Reject, environ: WSGIEnvironment) -> None:
    """Log a refusal. If a WebSocket was asked for, count it in :func:`syncws.stats` too."""
    if is_websocket_request(environ):
        REGISTRY.refused(answer.code)
    noted = environ.get(REFUSED_KEY)
    if noted is not None and answer.code not in _LATER:
        noted.append(answer.code)
    logger.info(
        "refused %r from %s with %d: %s",
        environ.get("PATH_INFO", ""),
        environ.get("REMOTE_ADDR") or "unix",
        answer.code,
        answer.message,
    )


def open_session(
    answer: Accept,
    handler: Callable[..., Any],
    options: Options,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    extra_headers: Sequence[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Carry out an accepted handshake: send the 101, run the handler, end the session."""
    # The calls below a session's take memory for as long as it lasts: this is all one function.
    admitted = admit(environ, options)
    if isinstance(admitted, Reject):
        if options.refuse != "close" or "HTTP_ORIGIN" not in environ:
            return refuse(admitted, environ, start_response)
        return _close_instead(admitted, answer, options, environ, start_response, extra_headers)
    try:
        environ.setdefault(ROUTE_KEY, getattr(handler, "__qualname__", type(handler).__qualname__))
        connector = connector_for(environ)
        session = make_session(connector, answer, options, environ)
        try:
            session._prepare()
        except RuntimeError as exc:
            logger.warning("no thread for another session: %s", exc)
            return refuse(busy(), environ, start_response)
        before = session._traffic().bytes_sent
        try:
            answer.headers.extend(extra_headers)
            connector.accept(answer, start_response)
            session._opened()
            REGISTRY.add(session, connector.server)
            connector.opened(session)
            run_handler(session, handler, connector.failed)
        finally:
            # Ends the session if the 101 could not be sent. Does nothing after the handler.
            session.terminate()
            session._conclude(CloseReason())
            REGISTRY.remove(session)
            connector.closed(session, session._traffic().bytes_sent - before)
    finally:
        admitted()
    return []


def _close_instead(
    refusal: Reject,
    answer: Accept,
    options: Options,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    extra_headers: Sequence[tuple[str, str]],
) -> Iterable[bytes]:
    """``refuse="close"``: open a session that only tells a web page of the refusal."""
    note_refusal(refusal, environ)
    code = close_code(refusal.code)
    assert code is not None

    def close(session: Session) -> None:
        session.close(code, as_reason(refusal.message))

    options = dataclasses.replace(
        options, raw=False, install_extensions=False, sessions_per=None, max_sessions=None
    )
    return open_session(answer, close, options, environ, start_response, extra_headers)


def make_session(
    connector: Connector, answer: Accept, options: Options, environ: WSGIEnvironment
) -> CommonSession:
    """Make the session of an accepted handshake; its 101 has not been sent."""
    received = connector.take_received()
    transport = connector.transport()
    transport.received += len(received)
    opening = Opening(
        transport,
        options,
        environ,
        subprotocol=answer.subprotocol,
        deflate=answer.deflate,
        extensions=dict(answer.headers).get("Sec-WebSocket-Extensions", ""),
        received=received,
    )
    session: CommonSession = RawSession(opening) if options.raw else Session(opening)
    begin_frame_log(transport, session, received)
    return session
