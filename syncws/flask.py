"""WebSocket routes for Flask::

    from flask import Flask
    from syncws.flask import WebSockets, messages

    app = Flask(__name__)
    websockets = WebSockets(app, ping_interval=20)

    @websockets.route("/rooms/<room>")
    def room(session, room):
        for message in messages(session):
            session.send(message)

``before_request`` functions act before the WebSocket opens, and so do decorators of views
that you give to the route: ``route(rule, decorators=[login_required])``. They can refuse the
request with ``abort()`` or a redirect. The handler can use ``flask.request``,
``flask.session`` and ``g``. A change of ``flask.session`` in the handler is not saved: the
cookie went out with the 101.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from flask import Blueprint, Flask, Response, current_app, request, request_started
from werkzeug.exceptions import HTTPException
from werkzeug.routing import WebsocketMismatch
from werkzeug.wrappers import Response as BaseResponse

from .close import CloseCode, CloseReason
from .handlers import attributes_for_views, decorated_by
from .options import Options, RawRouteOptions, RouteOptions
from .session.running import check_handler
from .session.units import messages_in_units
from .system.logs import logger
from .upgrade.application import ROUTE_KEY, application_instead, open_session, refuse
from .upgrade.handshake import Accept, Reject, negotiate
from .upgrade.readable import readable_refusals
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

__all__ = ["WebSockets", "messages", "upgrade_view"]

_OPTION_NAMES = frozenset(field.name for field in dataclasses.fields(Options))

#: The prefix of options in ``app.config``.
_CONFIG = "SYNCWS_"

#: Packages whose decorators refuse requests. On a handler they would come too late.
_GUARDS = frozenset({"flask_httpauth", "flask_jwt_extended", "flask_login", "flask_security"})

SessionHandler = TypeVar("SessionHandler", bound="Callable[Concatenate[Session, ...], Any]")
RawSessionHandler = TypeVar(
    "RawSessionHandler", bound="Callable[Concatenate[RawSession, ...], Any]"
)
ViewDecorator = Callable[[Any], Any]


class FlaskRouteOptions(RouteOptions, total=False):
    """The session options, and options of Werkzeug's ``Rule``."""

    defaults: Mapping[str, Any]
    host: str
    merge_slashes: bool
    strict_slashes: bool
    subdomain: str


class FlaskRawRouteOptions(FlaskRouteOptions, RawRouteOptions, total=False):
    """The same for ``raw=True``."""


class WebSockets:
    """WebSocket routes on a Flask application or a blueprint.

    ``options`` are those of :class:`syncws.Options`, for all routes made here. A route can
    override them. ``app.config`` can have options too, which both override:
    ``app.config["SYNCWS_PING_INTERVAL"] = 30``.

    Without ``app``, call ``init_app()`` later; you may declare routes before.

    Raises ``TypeError`` or ``ValueError`` for invalid options.
    """

    def __init__(
        self, app: Flask | Blueprint | None = None, **options: Unpack[RouteOptions]
    ) -> None:
        Options(**options)  # invalid options fail here, not at the first route
        self._options: dict[str, Any] = {**options}
        self._routes: list[tuple[str, dict[str, Any]]] = []
        self._app: Flask | Blueprint | None = None
        if app is not None:
            self._app = app
            self.init_app(app)

    def init_app(self, app: Flask | Blueprint) -> None:
        """Install the routes declared so far on ``app``. Call it for any number of applications.

        Raises ``TypeError`` or ``ValueError`` for invalid options in ``app.config``.
        """
        if isinstance(app, Flask):
            _config_options(app)
            _make_refusals_readable(app, self._options)
        elif not isinstance(app, Blueprint):
            raise TypeError(f"WebSockets() takes a Flask application or a blueprint, not {app!r}")
        else:
            app.record_once(lambda state: _make_refusals_readable(state.app, self._options))
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

        It is called with the session and the URL's parameters. ``endpoint`` is by default the name
        of the function, or of the object's class. With ``blueprint``, the route belongs to that
        blueprint.

        ``decorators`` are decorators of views, such as Flask-Login's ``login_required``. They act
        before the WebSocket opens and may refuse the request. The last one acts first, as in
        Flask's ``View.decorators``.

        ``options`` are session options, which override those of :class:`WebSockets`, or options of
        Werkzeug's ``Rule`` (``defaults``, ``strict_slashes``, ``host``, ``subdomain``).

        Do not put a guard on the handler itself: it would run after the WebSocket has opened, too
        late for a 401. Above ``@websockets.route`` it would do nothing. If the handler returns a
        response, or aborts, the session is closed with 1008 (1011 for a status from 500 on) and a
        warning is logged.

        Raises ``TypeError`` or ``ValueError`` for invalid options, for a handler that is ``async``,
        a generator or an application already, and for a guard of Flask-Login, Flask-HTTPAuth,
        Flask-JWT-Extended or Flask-Security on the handler.
        """
        if not isinstance(rule, str):
            raise TypeError(f'write @websockets.route("/..."): the rule is a str, not {rule!r}')
        session_options = {**self._options}
        rule_options: dict[str, Any] = {}
        for name, value in options.items():
            (session_options if name in _OPTION_NAMES else rule_options)[name] = value
        resolved = Options(**session_options)  # invalid options fail here

        def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
            check_handler(handler)
            _check_guards(handler, rule)
            view: Any = functools.update_wrapper(
                _View(upgrade_view, handler, resolved, session_options),
                handler,
                updated=attributes_for_views(handler),
            )
            for decorator in decorators:
                view = decorator(view)
            if decorators:
                view = functools.update_wrapper(_View(view), view)
            view.options = session_options
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
    """Yield the session's messages, and handle each one in contexts of its own, as a request.

    ``g`` is empty for each message. At its end the ``teardown_request`` and
    ``teardown_appcontext`` functions run, which give back a database connection, for example.
    Call it in the handler's thread. It ends, and raises, as ``for message in session`` does.
    """

    @contextlib.contextmanager
    def unit() -> Iterator[None]:
        # The request's context uses the application's context that it finds.
        with current_app.app_context(), current_app.request_context(session.environ):
            yield

    return messages_in_units(session, unit)


class _View(partial[Any]):
    """The view of a WebSocket route. The class tells it from other views."""

    #: The options given to the route.
    options: dict[str, Any]


class _Upgrade(Response):
    """The response that opens a session. The server calls it after Flask has run the
    ``after_request`` functions and set the session cookie."""

    default_mimetype = None

    answer: Accept
    handler: Callable[..., Any]
    options: Options

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.status_code != 101:
            # An after_request function has refused the request.
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
    """Return a class that is also the application's own: Flask converts other responses."""
    if response_class is Response:
        return _Upgrade
    return type("_Upgrade", (_Upgrade, response_class), {})


def upgrade_view(
    handler: Callable[..., Any],
    options: Options,
    given: dict[str, Any],
    **parameters: Any,
) -> ResponseReturnValue:
    """Answer a request for a WebSocket route, with those ``given`` and the configured options."""
    environ = request.environ
    more = _config_options(current_app)
    if more:
        options = Options(**{**more, **given})
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
    environ[ROUTE_KEY] = str(request.url_rule)
    return response


def _handle(
    handler: Callable[..., Any], session: CommonSession, parameters: dict[str, Any]
) -> None:
    """Run the handler. A response that comes too late closes the session."""
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


def _config_options(app: Flask) -> dict[str, Any]:
    """Return the options in ``app.config``, read anew: you may load it after routes are made."""
    options: dict[str, Any] = app.config.get_namespace(_CONFIG)
    for name in options:
        if name not in _OPTION_NAMES or name == "raw":
            raise TypeError(
                f'app.config["{_CONFIG}{name.upper()}"] is not an option of all routes: see '
                "syncws.Options for their names"
            )
    if options:
        try:
            Options(**options)
        except (TypeError, ValueError) as exc:
            kind = TypeError if isinstance(exc, TypeError) else ValueError
            raise kind(f'app.config["{_CONFIG}..."]: {exc}') from exc
    return options


def _check_guards(handler: Any, rule: str) -> None:
    """Raise ``TypeError`` if a known guard decorates the handler."""
    if package := decorated_by(handler, _GUARDS):
        raise TypeError(
            f"a decorator of {package} is on the handler of {rule!r}, where it acts after "
            "the WebSocket has opened, too late to refuse it: remove it there, and write "
            f'@websockets.route("{rule}", decorators=[...]) with the decorator in the list'
        )


def _make_refusals_readable(app: Any, installed: dict[str, Any]) -> None:
    """Carry out ``refuse="close"``: the option of a route, or the one of all routes."""

    def options(environ: WSGIEnvironment) -> Options:
        given = installed
        with contextlib.suppress(HTTPException):
            endpoint, _ = app.create_url_adapter(app.request_class(environ)).match(websocket=True)
            given = getattr(app.view_functions[endpoint], "options", installed)
        return Options(**{**_config_options(app), **given})

    app.wsgi_app = readable_refusals(app.wsgi_app, options)


def _route_plain_requests_of(app: App | Blueprint) -> None:
    """Let plain requests reach the WebSocket routes of ``app``, which answer with 501."""
    if isinstance(app, Blueprint):
        app.record_once(lambda state: _route_plain_requests_of(state.app))
    else:
        request_started.connect(_route_plain_request, app)


def _route_plain_request(app: Flask, **_: Any) -> None:
    """Set the route of a plain request to a WebSocket route.

    Werkzeug finds no rule for it and would answer 400; the route itself gives a better
    answer. The route is set before ``before_request`` functions, which depend on it:
    blueprints have their own.
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
