"""WebSockets on some paths of a WSGI application that knows nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..options import Options
from .application import WebSocketUpgrade
from .handshake import is_websocket_request
from .readable import readable_refusals
from .respond import carry_out_upgrades

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from typing_extensions import Unpack

    from ..options import RouteOptions

__all__ = ["WebSocketMiddleware"]


class WebSocketMiddleware:
    """A WSGI application that upgrades WebSocket requests, and passes all other requests to
    ``wsgi_app``::

        app = syncws.WebSocketMiddleware(app, {"/echo": echo})

    ``handlers`` maps paths (compared with ``PATH_INFO``) to handlers or to
    :class:`WebSocketUpgrade` objects. ``options`` are those of :class:`Options`, for all
    handlers; an upgrade has its own.

    A plain request to one of the paths goes to ``wsgi_app``, and so does a WebSocket request
    to another path. WebSocket requests to the paths do not reach ``wsgi_app``, so that its
    authentication does not see them: put authentication around this middleware.

    The middleware also opens the WebSockets that views have asked for with :func:`respond`.
    syncws's own servers do that without it.

    With ``refuse="close"``, web pages can read the refusals of ``wsgi_app`` and of the handlers:
    see :class:`Options`.

    Raises ``ValueError`` for a path without a slash at its beginning, and ``TypeError`` for
    anything else than an application and a mapping of handlers.
    """

    def __init__(
        self,
        wsgi_app: WSGIApplication,
        handlers: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
        **options: Unpack[RouteOptions],
    ) -> None:
        if not callable(wsgi_app) or not isinstance(handlers, Mapping):
            raise TypeError(
                'write WebSocketMiddleware(application, {"/path": handler}), not '
                f"WebSocketMiddleware({wsgi_app!r}, {handlers!r})"
            )
        self.wsgi_app = carry_out_upgrades(wsgi_app)
        for path in handlers:
            if not path.startswith("/"):
                raise ValueError(f"a path begins with a slash: use {'/' + path!r}, not {path!r}")
        self._upgrades = {
            path: handler
            if isinstance(handler, WebSocketUpgrade)
            else WebSocketUpgrade(handler, **options)
            for path, handler in handlers.items()
        }
        checked = Options(**options)
        self._run: WSGIApplication = self._dispatch
        if checked.refuse == "close":
            self._run = readable_refusals(self._dispatch, lambda environ: checked)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._run(environ, start_response)

    def _dispatch(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        upgrade = self._upgrades.get(environ.get("PATH_INFO", ""))
        if upgrade is None or not is_websocket_request(environ):
            return self.wsgi_app(environ, start_response)
        return upgrade(environ, start_response)
