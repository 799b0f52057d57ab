"""Upgrades for frameworks whose responses can not carry one out themselves.

The view returns a response of its framework with the status 101, and notes its upgrade in
the environ. The application returns the response through all of its middleware. Then
``carry_out_upgrades()`` opens the session. So the 101 has the session cookie, every
middleware can still refuse the request, and the framework gives back what belongs to the
request, such as a database connection, before the session begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from ..protocol.headers import RESERVED
from ..system.logs import logger
from .application import (
    WebSocketUpgrade,
    application_instead,
    end_response,
    note_refusal,
    open_session,
)
from .connectors import SUPPORTED
from .early import EarlySession
from .handshake import Accept, Reject, is_websocket_request, negotiate
from .readable import READABLE_KEY, readable_refusals

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from ..handlers import Handler, RawHandler
    from ..options import RawRouteOptions, RouteOptions

__all__ = ["NOT_FOR_101", "ResponseParts", "carry_out_upgrades", "respond"]

#: The key of the environ for the view's upgrade: a list that ``carry_out_upgrades()`` makes.
DEFERRED_KEY = "syncws.deferred"

#: Headers that frameworks add to every response, and that a 101 does not have.
NOT_FOR_101 = frozenset({"content-type", "content-length", "content-encoding"}) | RESERVED


class ResponseParts(NamedTuple):
    """The parts that a view makes its framework's response of."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def code(self) -> int:
        """The status as a number."""
        return int(self.status[:3])


@overload
def respond(
    environ: WSGIEnvironment,
    handler: Handler | WebSocketUpgrade,
    *,
    raw: Literal[False] = False,
    **options: Unpack[RouteOptions],
) -> ResponseParts: ...
@overload
def respond(
    environ: WSGIEnvironment,
    handler: RawHandler,
    *,
    raw: Literal[True],
    **options: Unpack[RawRouteOptions],
) -> ResponseParts: ...
def respond(environ: WSGIEnvironment, handler: Callable[..., Any], **options: Any) -> ResponseParts:
    """Open a WebSocket from a view of any WSGI framework::

        @app.get("/echo")                                   # this is Bottle
        def view():
            response = syncws.respond(bottle.request.environ, echo)
            return bottle.HTTPResponse(response.body, response.status, response.headers)

    The view must return the response with this status, these headers and this body. The
    status is 101, or a refusal's, or the one of ``on_non_websocket_request``. You may add
    headers to a 101, such as cookies. After the view and all middleware have returned the
    101, ``handler`` is called with the session.

    ``handler`` may be a :class:`WebSocketUpgrade`; otherwise ``options`` are those of
    :class:`Options`.

    Raises ``RuntimeError`` on a server that is not syncws's own, unless you wrap the
    application in :class:`WebSocketMiddleware`. Raises ``ValueError`` for ``refuse="close"``
    unless that middleware has the option.
    """
    upgrade = (
        handler if isinstance(handler, WebSocketUpgrade) else WebSocketUpgrade(handler, **options)
    )
    instead = application_instead(environ, upgrade.options)
    if instead is not None:
        return _answer_of(instead, environ)
    answer = negotiate(environ, upgrade.options)
    if isinstance(answer, Reject):
        note_refusal(answer, environ)
        return ResponseParts(answer.status, answer.headers, answer.body)
    noted = environ.get(DEFERRED_KEY)
    if noted is None:
        raise RuntimeError(
            "a view can open a WebSocket on syncws's own servers, or when the application is "
            f"wrapped in syncws.WebSocketMiddleware(app): run it on {SUPPORTED}"
        )
    if upgrade.options.refuse == "close" and not environ.get(READABLE_KEY):
        raise ValueError(
            'respond() comes too late for refuse="close", since most refusals come before it: '
            "leave the option out here, and write application = "
            'syncws.WebSocketMiddleware(application, refuse="close")'
        )
    noted[:] = [(answer, upgrade)]
    return ResponseParts(answer.status, [], b"")


def _answer_of(application: WSGIApplication, environ: WSGIEnvironment) -> ResponseParts:
    """Run an application to its end, and return its response."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    body: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        started[:] = [(status, headers)]
        return body.append

    result = application(environ, start_response)
    try:
        body.extend(result)
    finally:
        end_response(result)
    ((status, headers),) = started
    return ResponseParts(status, headers, b"".join(body))


def carry_out_upgrades(application: WSGIApplication) -> WSGIApplication:
    """Wrap ``application``, and open the sessions that its views have asked for, and those that
    it opens itself in the middle of a request."""

    def with_upgrades(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The calls below a session's take memory for as long as it lasts: they are few.
        request = _Request(environ, start_response)
        environ[DEFERRED_KEY] = request.noted
        result = (
            EarlySession(environ, request.start).run(application)
            if is_websocket_request(environ)
            else application(environ, request.start)
        )
        if not request.started:
            return request.started_late(result)
        if request.headers_of_101 is None:
            return result
        try:
            # Middleware may do something at the end of its response, such as end a span.
            for _ in result:
                pass
        finally:
            end_response(result)
        return request.upgraded()

    return readable_refusals(with_upgrades)


class _Request:
    """One request to an application, whose view may ask for a session."""

    __slots__ = ("_environ", "_start_response", "headers_of_101", "noted", "started")

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self._environ = environ
        self._start_response = start_response
        #: What the view has noted: nothing, or one upgrade.
        self.noted: list[tuple[Accept, WebSocketUpgrade]] = []
        #: The headers of the view's 101, unless another response has replaced it.
        self.headers_of_101: list[tuple[str, str]] | None = None
        #: Whether the application has begun its response.
        self.started = False

    def start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """The ``start_response()`` that the application gets."""
        self.started = True
        if self.noted and status.startswith("101"):
            self.headers_of_101 = headers
            return lambda data: None
        self.headers_of_101 = None  # with exc_info, another response may replace the 101
        if self.noted and status.startswith("2"):
            logger.warning(
                "the view of %r asked for a WebSocket, but the response is %r and none opens: "
                "return the response that respond(), or the view of @websocket, has given",
                self._environ.get("PATH_INFO", ""),
                status,
            )
        return self._start_response(status, headers, *exc_info)

    def upgraded(self) -> Iterable[bytes]:
        """Open the session that the view has asked for."""
        ((answer, upgrade),) = self.noted
        headers = self.headers_of_101
        assert headers is not None
        extra = [(name, value) for name, value in headers if name.lower() not in NOT_FOR_101]
        return open_session(
            answer, upgrade.handler, upgrade.options, self._environ, self._start_response, extra
        )

    def started_late(self, result: Iterable[bytes]) -> Iterator[bytes]:
        """Wait for the status of an application that is a generator: its code starts with
        the first part that is asked for."""
        try:
            for data in result:
                if self.headers_of_101 is None:
                    yield data
        finally:
            end_response(result)
        if self.headers_of_101 is not None:
            yield from self.upgraded()
