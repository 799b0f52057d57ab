"""WebSocket routes for Flask::

    from flask import Flask
    from syncws.flask import WebSockets

    app = Flask(__name__)
    websockets = WebSockets(app, ping_interval=20)

    @websockets.route("/rooms/<room>")
    def room(session, room):
        for message in session:
            session.send(message)

``before_request`` functions, the session cookie and ``abort()`` act before the
WebSocket is opened; ``flask.request``, ``flask.session`` and ``g`` are there in
the handler. What a handler puts into ``flask.session`` is not saved: the
cookie went out with the 101.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import WebsocketMismatch

from .handshake import Accept, is_websocket_request, negotiate
from .options import Options
from .upgrade import check_handler, open_session, refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask.sansio.app import App
    from flask.typing import ResponseReturnValue

__all__ = ["WebSockets"]

_OPTION_NAMES = frozenset(field.name for field in dataclasses.fields(Options))

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])


class WebSockets:
    """WebSocket routes on a Flask application or a blueprint.

    ``options`` are those of :class:`syncws.Options`, and hold for all routes
    made here; a route can override them.

    Without ``app``, call ``init_app()`` later: routes may be declared before.
    """

    def __init__(self, app: Flask | Blueprint | None = None, **options: Any) -> None:
        Options(**options)  # complain here, not at the first route
        self._options = options
        self._routes: list[tuple[str, dict[str, Any]]] = []
        self._app: Flask | Blueprint | None = None
        if app is not None:
            self._app = app
            self.init_app(app)

    def init_app(self, app: Flask | Blueprint) -> None:
        """Install the routes declared so far on ``app``; any number of applications."""
        _answer_mismatches_of(app)
        for rule, rule_options in self._routes:
            app.add_url_rule(rule, **rule_options)

    def route(
        self,
        rule: str,
        blueprint: Blueprint | None = None,
        *,
        endpoint: str | None = None,
        **options: Any,
    ) -> Callable[[AnyHandler], AnyHandler]:
        """Make the decorated function the handler of the WebSockets at ``rule``.

        It is called with the session and the URL's parameters. With
        ``blueprint`` the route belongs to that one. ``options`` are session
        options, which override the installed ones, or those of Werkzeug's
        ``Rule`` (``defaults``, ``strict_slashes``, ``host``, ``subdomain``).
        """
        session_options = {**self._options}
        rule_options: dict[str, Any] = {}
        for name, value in options.items():
            (session_options if name in _OPTION_NAMES else rule_options)[name] = value
        resolved = Options(**session_options)

        def decorate(handler: AnyHandler) -> AnyHandler:
            check_handler(handler)
            keywords = {
                "endpoint": endpoint or handler.__name__,
                "view_func": partial(_upgrade, handler, resolved),
                "websocket": True,
                **rule_options,
            }
            if blueprint is not None:
                _answer_mismatches_of(blueprint)
                blueprint.add_url_rule(rule, **keywords)
            else:
                self._routes.append((rule, keywords))
                if self._app is not None:
                    self._app.add_url_rule(rule, **keywords)
            return handler

        return decorate


class _Upgrade(Response):
    """The response that opens a session when it is run, after Flask has made it
    go through ``after_request`` and has put the session cookie into it."""

    default_mimetype = None

    def __init__(self, answer: Accept, handler: Callable[..., Any], options: Options) -> None:
        super().__init__(status=101)
        self._answer = answer
        self._handler = handler
        self._options = options

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        extra = [
            (name, value)
            for name, value in self.get_wsgi_headers(environ)
            if name.lower() not in ("content-type", "content-length")
        ]
        return open_session(
            self._answer, self._handler, self._options, environ, start_response, extra
        )


def _upgrade(
    handler: Callable[..., Any], options: Options, **parameters: Any
) -> ResponseReturnValue:
    """The view of a WebSocket route."""
    environ = request.environ
    instead = options.on_non_websocket_request
    if callable(instead) and not is_websocket_request(environ):
        return Response.from_app(instead, environ)
    answer = negotiate(environ, options)
    if isinstance(answer, Accept):
        return _Upgrade(answer, lambda session: handler(session, **parameters), options)
    return Response.from_app(partial(refuse, answer), environ)


def _answer_mismatches_of(app: App | Blueprint) -> None:
    if isinstance(app, Blueprint):
        app.record_once(lambda state: _answer_mismatches_of(state.app))
    else:
        app.register_error_handler(WebsocketMismatch, _answer_mismatch)


def _answer_mismatch(error: WebsocketMismatch) -> ResponseReturnValue:
    """A plain request came to a WebSocket route, or the other way round.

    Werkzeug answers both with 400. For the first, the route itself knows
    better. (Flask lets an ordinary route on the same path go first.)
    """
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None  # or no rule would have been looked for
    try:
        endpoint, parameters = adapter.match(websocket=True)
    except HTTPException:
        return error
    view = current_app.view_functions[endpoint]
    if isinstance(view, partial) and view.func is _upgrade:
        result: ResponseReturnValue = view(**parameters)
        return result
    return error
