"""flask-sock's ``Sock``, on any server that syncws runs on::

    from syncws.compat.flask_sock import Sock

The WebSocket opens when Flask has answered the request: functions of ``before_request`` and
``after_request`` have run, and the session cookie goes out with the 101.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from flask import Blueprint, current_app, request

from ..flask import upgrade_view
from .connection import PING_INTERVAL
from .errors import ConnectionClosed
from .simple_websocket import Server, server_options, warn_of_origin

if TYPE_CHECKING:
    from flask import Flask

    from ..session.session import Session

__all__ = ["ConnectionClosed", "Server", "Sock"]

_UNUSED = ("receive_bytes", "thread_class", "event_class", "selector_class")


class Sock:
    """WebSocket routes on a Flask application.

    Without ``app``, call ``init_app()`` later. The application's ``SOCK_SERVER_OPTIONS`` are
    the options of :class:`Server`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self.app: Flask | None = None
        self.bp: Blueprint | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Install the routes declared so far on ``app``."""
        if self.bp is not None:
            app.register_blueprint(self.bp)
        self.app = app

    def route(
        self, path: str, bp: Blueprint | None = None, **kwargs: Any
    ) -> Callable[[Callable[..., Any]], None]:
        """Make the decorated function the handler of the WebSockets at ``path``: it is called
        with the connection (a :class:`Server`) and the URL's parameters.

        With ``bp`` the route belongs to that blueprint. ``kwargs`` are those of Flask's
        ``route()``.
        """

        def decorate(function: Callable[..., Any]) -> None:
            @wraps(function)
            def websocket_route(**parameters: Any) -> Any:
                return _upgrade(function, parameters)

            kwargs["websocket"] = True
            target: Any = bp or self.app
            if target is None:
                if self.bp is None:
                    self.bp = Blueprint("__flask_sock", __name__)
                target = self.bp
            target.route(path, **kwargs)(websocket_route)

        return decorate


def _upgrade(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    given = dict(current_app.config.get("SOCK_SERVER_OPTIONS", {}))
    receive_bytes = given.get("receive_bytes", 4096)
    for name in _UNUSED:
        given.pop(name, None)
    subprotocols = given.pop("subprotocols", None) or []
    if isinstance(subprotocols, str):
        subprotocols = [subprotocols]
    limit = given.pop("max_message_size", None)
    interval = given.pop("ping_interval", PING_INTERVAL)

    def choose(offered: Any) -> str | None:
        return next((name for name in offered if name in subprotocols), None)

    def handler(session: Session, **parameters: Any) -> None:
        ws = Server.over(session)
        ws.subprotocols, ws.max_message_size = subprotocols, limit
        ws.receive_bytes = receive_bytes
        try:
            function(ws, **parameters)
        except ConnectionClosed as exc:
            if getattr(exc, "session", session) is not session:
                raise

    warn_of_origin(request.environ, given)
    options = server_options(interval, limit, given, choose)
    # The second is what ``app.config`` does not override: all of them.
    return upgrade_view(handler, options, vars(options), **parameters)
