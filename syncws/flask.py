"""WebSocket routes for Flask::

    from flask import Flask
    from syncws.flask import WebSockets, messages

    app = Flask(__name__)
    websockets = WebSockets(app, ping_interval=20)

    @websockets.route("/rooms/<room>")
    def room(session, room):
        for message in messages(session):
            session.send(message)

``before_request`` functions, the session cookie and ``abort()`` in them act
before the WebSocket is opened; so do decorators of views, when the route is
given them: ``route(rule, decorators=[login_required])``. ``flask.request``,
``flask.session`` and ``g`` are there in the handler. What a handler puts into
``flask.session`` is not saved: the cookie went out with the 101.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from flask import Blueprint, Flask, Response, current_app, request, request_started
from werkzeug.exceptions import HTTPException
from werkzeug.routing import WebsocketMismatch
from werkzeug.wrappers import Response as BaseResponse

from .close import CloseCode, CloseReason
from .handlers import attributes_for_views
from .options import Options, RawRouteOptions, RouteOptions
from .session.running import check_handler
from .session.units import messages_in_units
from .upgrade.application import application_instead, open_session, refuse
from .upgrade.handshake import Accept, Reject, negotiate
from .upgrade.respond import NOT_FOR_101

if TYPE_CHECKING:
    from typing import Concatenate

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask.sansio.app import App
    from flask.typing import ResponseReturnValue
    from typing_extensions import Unpack

    from .session.common import CommonSession
    from .session.raw import RawSession
    from .session.session import Session

__all__ = ["WebSockets", "messages"]

logger = logging.getLogger("syncws")

_OPTION_NAMES = frozenset(field.name for field in dataclasses.fields(Options))

SessionHandler = TypeVar("SessionHandler", bound="Callable[Concatenate[Session, ...], Any]")
RawSessionHandler = TypeVar(
    "RawSessionHandler", bound="Callable[Concatenate[RawSession, ...], Any]"
)
ViewDecorator = Callable[[Any], Any]


class FlaskRouteOptions(RouteOptions, total=False):
    """Those of Werkzeug's ``Rule`` that make sense here, too."""

    defaults: Mapping[str, Any]
    host: str
    merge_slashes: bool
    strict_slashes: bool
    subdomain: str


class FlaskRawRouteOptions(FlaskRouteOptions, RawRouteOptions, total=False):
    """The same for ``raw=True``."""


class WebSockets:
    """WebSocket routes on a Flask application or a blueprint.

    ``options`` are those of :class:`syncws.Options`, and hold for all routes
    made here; a route can override them.

    Without ``app``, call ``init_app()`` later: routes may be declared before.
    """

    def __init__(
        self, app: Flask | Blueprint | None = None, **options: Unpack[RouteOptions]
    ) -> None:
        Options(**options)  # complain here, not at the first route
        self._options: dict[str, Any] = {**options}
        self._routes: list[tuple[str, dict[str, Any]]] = []
        self._app: Flask | Blueprint | None = None
        if app is not None:
            self._app = app
            self.init_app(app)

    def init_app(self, app: Flask | Blueprint) -> None:
        """Install the routes declared so far on ``app``; any number of applications."""
        _route_plain_requests_of(app)
        for rule, rule_options in self._routes:
            app.add_url_rule(rule, **rule_options)

    @overload
    def route(
        self,
        rule: str,
        blueprint: Blueprint | None = None,
        *,
        endpoint: str | None = None,
        decorators: Sequence[ViewDecorator] = (),
        raw: Literal[False] = False,
        **options: Unpack[FlaskRouteOptions],
    ) -> Callable[[SessionHandler], SessionHandler]: ...
    @overload
    def route(
        self,
        rule: str,
        blueprint: Blueprint | None = None,
        *,
        endpoint: str | None = None,
        decorators: Sequence[ViewDecorator] = (),
        raw: Literal[True],
        **options: Unpack[FlaskRawRouteOptions],
    ) -> Callable[[RawSessionHandler], RawSessionHandler]: ...
    def route(
        self,
        rule: str,
        blueprint: Blueprint | None = None,
        *,
        endpoint: str | None = None,
        decorators: Sequence[ViewDecorator] = (),
        **options: Any,
    ) -> Callable[[Any], Any]:
        """Make the decorated function the handler of the WebSockets at ``rule``.

        It is called with the session and the URL's parameters. ``endpoint`` is
        its name unless given, or that of its class. With ``blueprint`` the
        route belongs to that one. ``decorators`` are those of views,
        Flask-Login's ``login_required`` for one: they act before the WebSocket
        opens, and may refuse it; the last one acts first, as in Flask's
        ``View.decorators``. ``options`` are session options, which
        override the installed ones, or those of Werkzeug's ``Rule``
        (``defaults``, ``strict_slashes``, ``host``, ``subdomain``).

        A decorator of the handler itself runs with the handler: too late to
        refuse. What it answers then, or aborts with, closes the session with
        1008 (1011 for a status from 500 on), and is logged.
        """
        session_options = {**self._options}
        rule_options: dict[str, Any] = {}
        for name, value in options.items():
            (session_options if name in _OPTION_NAMES else rule_options)[name] = value
        resolved = Options(**session_options)

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            check_handler(handler)
            view: Any = functools.update_wrapper(
                _View(_upgrade, handler, resolved), handler, updated=attributes_for_views(handler)
            )
            for decorator in decorators:
                view = decorator(view)
            if decorators:
                view = functools.update_wrapper(_View(view), view)
            keywords = {
                "endpoint": endpoint or getattr(handler, "__name__", type(handler).__name__),
                "view_func": view,
                "websocket": True,
                **rule_options,
            }
            if blueprint is not None:
                _route_plain_requests_of(blueprint)
                blueprint.add_url_rule(rule, **keywords)
            else:
                self._routes.append((rule, keywords))
                if self._app is not None:
                    self._app.add_url_rule(rule, **keywords)
            return handler

        return decorate


def messages(session: Session) -> Iterator[str | bytes]:
    """The session's messages, each handled in contexts of its own, as a request is:
    ``g`` is empty, and at the end ``teardown_request`` and ``teardown_appcontext``
    functions give back what the work on the message has taken, such as a
    database connection. In the handler's thread; raises as ``for message in
    session`` does.
    """

    @contextlib.contextmanager
    def unit() -> Iterator[None]:
        # A request's context makes do with the application's that it finds.
        with current_app.app_context(), current_app.request_context(session.environ):
            yield

    return messages_in_units(session, unit)


class _View(partial[Any]):
    """A view of ours, to be told from others."""


class _Upgrade(Response):
    """The response that opens a session when it is run, after Flask has made it
    go through ``after_request`` and has put the session cookie into it."""

    default_mimetype = None

    answer: Accept
    handler: Callable[..., Any]
    options: Options

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.status_code != 101:
            # Something in between has thought better of it.
            return super().__call__(environ, start_response)
        extra = [
            (name, value)
            for name, value in self.get_wsgi_headers(environ)
            if name.lower() not in NOT_FOR_101
        ]
        try:
            return open_session(
                self.answer, self.handler, self.options, environ, start_response, extra
            )
        finally:
            self.close()  # for call_on_close()


@functools.cache
def _upgrade_class(response_class: Any) -> type[_Upgrade]:
    """Flask converts responses that are not of the application's own class."""
    if response_class is Response:
        return _Upgrade
    return type("_Upgrade", (_Upgrade, response_class), {})


def _upgrade(
    handler: Callable[..., Any], options: Options, **parameters: Any
) -> ResponseReturnValue:
    """The view of a WebSocket route."""
    environ = request.environ
    instead = application_instead(environ, options)
    if instead is not None:
        return Response.from_app(instead, environ)
    answer = negotiate(environ, options)
    if isinstance(answer, Reject):
        return Response.from_app(partial(refuse, answer), environ)
    response_class: Any = current_app.response_class
    response = _upgrade_class(response_class)(status=101)
    response.answer = answer
    response.handler = lambda session: _handle(handler, session, parameters)
    response.options = options
    return response


def _handle(
    handler: Callable[..., Any], session: CommonSession, parameters: dict[str, Any]
) -> None:
    """Run the handler; what would have been the answer to a request closes the session."""
    try:
        result = handler(session, **parameters)
    except HTTPException as exc:
        status = exc.get_response(session.environ).status_code
    else:
        if isinstance(result, BaseResponse):
            status = result.status_code
        elif isinstance(result, tuple) and len(result) > 1 and isinstance(result[1], int):
            status = result[1]
        else:
            return
    logger.warning(
        "the handler of %s answers with the status %d, which is too late: check before the "
        "WebSocket opens, in before_request, or with route(..., decorators=[...])",
        session,
        status,
    )
    code = CloseCode.POLICY_VIOLATION if status < 500 else CloseCode.INTERNAL_ERROR
    session._end(CloseReason(code, "", "local"))


def _route_plain_requests_of(app: App | Blueprint) -> None:
    """Let plain requests reach the WebSocket routes of ``app``."""
    if isinstance(app, Blueprint):
        app.record_once(lambda state: _route_plain_requests_of(state.app))
    else:
        request_started.connect(_route_plain_request, app)


def _route_plain_request(app: Flask, **_: Any) -> None:
    """Werkzeug has found no rule but one for WebSockets, and would answer 400.

    The route itself knows better. It is entered here, before everything that
    looks at the route: ``before_request`` functions, of blueprints above all.
    """
    if not isinstance(request.routing_exception, WebsocketMismatch):
        return
    adapter = app.create_url_adapter(request)
    if adapter is None:
        return
    try:
        rule, parameters = adapter.match(websocket=True, return_rule=True)
    except HTTPException:
        return
    view = app.view_functions.get(rule.endpoint)
    if isinstance(view, _View):
        request.url_rule, request.view_args = rule, dict(parameters)
        request.routing_exception = None
