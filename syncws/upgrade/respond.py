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
from .early import allow_early_sessions
from .handshake import Accept, Reject, negotiate
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
    """Wrap ``application``, and open the sessions that its views have asked for."""
    application = allow_early_sessions(application)

    def with_upgrades(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        noted: list[tuple[Accept, WebSocketUpgrade]] = []
        headers_of_101: list[list[tuple[str, str]]] = []
        started = False

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal started
            started = True
            if noted and status.startswith("101"):
                headers_of_101[:] = [headers]
                return lambda data: None
            headers_of_101.clear()  # with exc_info, another response may replace the 101
            if noted and status.startswith("2"):
                logger.warning(
                    "the view of %r asked for a WebSocket, but the response is %r and none opens: "
                    "return the response that respond(), or the view of @websocket, has given",
                    environ.get("PATH_INFO", ""),
                    status,
                )
            return start_response(status, headers, *exc_info)

        def upgraded() -> Iterable[bytes]:
            (answer, upgrade), (headers,) = noted[0], headers_of_101
            extra = [(name, value) for name, value in headers if name.lower() not in NOT_FOR_101]
            return open_session(
                answer, upgrade.handler, upgrade.options, environ, start_response, extra
            )

        def started_late(result: Iterable[bytes]) -> Iterator[bytes]:
            """Wait for the status of an application that is a generator: its code starts with
            the first part that is asked for."""
            try:
                for data in result:
                    if not headers_of_101:
                        yield data
            finally:
                end_response(result)
            if headers_of_101:
                yield from upgraded()

        environ[DEFERRED_KEY] = noted
        result = application(environ, start)
        if not started:
            return started_late(result)
        if not headers_of_101:
            return result
        try:
            # Middleware may do something at the end of its response, such as end a span.
            for _ in result:
                pass
        finally:
            end_response(result)
        return upgraded()

    return readable_refusals(with_upgrades)
