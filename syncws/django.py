"""WebSocket views for Django::

    from syncws.django import websocket

    @websocket
    def room(request, session, room):
        for message in messages(session):
            ...

    urlpatterns = [path("ws/<room>/", room)]

Middleware acts first: sessions, authentication, whatever refuses the request.
The WebSocket opens when the view's response has gone through all of it, and
Django has done what it does at the end of a request.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, overload

from django.core import signals
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from .handlers import attributes_for_views, takes_session_first
from .session.running import check_handler
from .session.units import messages_in_units
from .upgrade.application import WebSocketUpgrade
from .upgrade.respond import respond

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .listener import Listener
    from .options import RawRouteOptions, RouteOptions
    from .session.raw import RawSession
    from .session.session import Session

__all__ = ["messages", "websocket"]


P = ParamSpec("P")


@overload
def websocket(
    view: Callable[Concatenate[HttpRequest, Session, P], Any],
    /,
    *,
    raw: Literal[False] = False,
    **options: Unpack[RouteOptions],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]: ...
@overload
def websocket(
    view: Callable[Concatenate[HttpRequest, RawSession, P], Any],
    /,
    *,
    raw: Literal[True],
    **options: Unpack[RawRouteOptions],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]: ...
@overload
def websocket(
    view: Listener, /, **options: Unpack[RouteOptions]
) -> Callable[..., HttpResponse]: ...
@overload
def websocket(
    *, raw: Literal[False] = False, **options: Unpack[RouteOptions]
) -> Callable[
    [Callable[Concatenate[HttpRequest, Session, P], Any]],
    Callable[Concatenate[HttpRequest, P], HttpResponse],
]: ...
@overload
def websocket(
    *, raw: Literal[True], **options: Unpack[RawRouteOptions]
) -> Callable[
    [Callable[Concatenate[HttpRequest, RawSession, P], Any]],
    Callable[Concatenate[HttpRequest, P], HttpResponse],
]: ...
def websocket(view: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a Django view of ``view(request, session, **url_parameters)``:
    ``@websocket``, ``@websocket(**options)``, or ``websocket(view)`` in ``path()``.
    What :func:`syncws.stream` and :func:`syncws.exchange` make, and a
    :class:`syncws.Listener`, are called without the request.

    ``options`` are those of :class:`syncws.Options`. The handler runs when the
    request is over for Django: its database connections are given back, and
    what is put into ``request.session`` then is saved by ``request.session.save()``
    only.
    """
    if view is None:
        return lambda view: websocket(view, **options)
    check_handler(view)
    WebSocketUpgrade(view, **options)  # complain here, not at the first request

    @functools.wraps(view, updated=attributes_for_views(view))
    def upgrade(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        environ: Any = request.META
        given = () if takes_session_first(view) else (request,)
        response = respond(
            environ, lambda session: view(*given, session, *args, **kwargs), **options
        )
        answer = HttpResponse(response.body, status=response.code)
        del answer["Content-Type"]
        for name, value in response.headers:
            if name.lower() == "set-cookie":
                answer.cookies.load(value)
            else:
                answer[name] = f"{answer[name]}, {value}" if name in answer else value
        return answer

    vars(upgrade)["_syncws_made_by"] = "@syncws.django.websocket"
    # A page can not make a browser send a WebSocket request with a CSRF token;
    # the check of the Origin is what protects it.
    return csrf_exempt(upgrade)


def messages(session: Session) -> Iterator[str | bytes]:
    """The session's messages, each handled as a request of its own: database
    connections are given back before the next one is waited for, as
    ``CONN_MAX_AGE`` has it, and those that have broken are opened anew. In the
    handler's thread; raises as ``for message in session`` does."""
    return messages_in_units(session, _unit)


@contextlib.contextmanager
def _unit() -> Iterator[None]:
    signals.request_started.send(sender=messages)
    try:
        yield
    finally:
        signals.request_finished.send(sender=messages)
