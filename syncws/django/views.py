"""The decorator ``websocket`` and the iterator ``messages``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, overload

from django.core import signals
from django.core.handlers.wsgi import get_path_info
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.views.decorators.csrf import csrf_exempt

from ..handlers import attributes_for_views, takes_session_first
from ..options import Options
from ..session.running import check_handler
from ..session.units import messages_in_units
from ..upgrade.application import ROUTE_KEY, WebSocketUpgrade
from ..upgrade.readable import READABLE_KEY
from ..upgrade.respond import respond
from .configuration import view_options
from .guards import run_view

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..listener import Listener
    from ..options import RawRouteOptions, RouteOptions
    from ..session.raw import RawSession
    from ..session.session import Session

__all__ = ["HANDLER", "messages", "websocket"]

#: The attribute of a view that has its handler. Decorators above copy it (functools.wraps).
HANDLER = "_syncws_handler"

#: The attribute of a view that has the options given to ``@websocket``.
OPTIONS = "_syncws_options"

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
    """Make a Django view of ``view(request, session, **url_parameters)``.

    Write ``@websocket`` or ``@websocket(**options)``, or ``websocket(view)`` in ``path()``.
    A :class:`syncws.Listener`, and a handler made by :func:`syncws.stream` or
    :func:`syncws.exchange`, is called without the request.

    ``options`` are those of :class:`syncws.Options`, and override the setting
    ``SYNCWS["OPTIONS"]``.

    Write guards such as ``@login_required`` *above* ``@websocket``. A guard below it runs
    after the WebSocket has opened. If the handler returns a response, or raises ``Http404``
    or ``PermissionDenied``, the session is closed with 1008 and a warning is logged.

    The handler runs after Django has ended the request and given its database connections
    back. Call ``request.session.save()`` to save a change of ``request.session``.

    Raises ``TypeError`` or ``ValueError`` for invalid options, and for a view that is
    ``async``, a generator, or decorated with ``@websocket`` already.
    """
    if view is None:
        return lambda view: websocket(view, **options)
    check_handler(view)
    WebSocketUpgrade(view, **options)  # invalid options fail here, not at the first request

    @functools.wraps(view, updated=attributes_for_views(view))
    def upgrade(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        environ: Any = request.META
        if request.resolver_match is not None:
            environ[ROUTE_KEY] = request.resolver_match.route
        given = () if takes_session_first(view) else (request,)

        def handler(session: Any) -> None:
            run_view(lambda: view(*given, session, *args, **kwargs), session)

        response = respond(environ, handler, **{**view_options(), **options})
        answer = HttpResponse(response.body, status=response.code)
        del answer["Content-Type"]
        for name, value in response.headers:
            if name.lower() == "set-cookie":
                answer.cookies.load(value)
            else:
                answer[name] = f"{answer[name]}, {value}" if name in answer else value
        return answer

    vars(upgrade)["_syncws_made_by"] = "@syncws.django.websocket"
    vars(upgrade)[HANDLER] = view
    vars(upgrade)[OPTIONS] = options
    # A page can not make a browser send a CSRF token with a WebSocket request. The check of
    # the Origin protects it instead.
    return csrf_exempt(upgrade)


def _note_options(environ: dict[str, Any] | None = None, **_: Any) -> None:
    """A request has begun: say with which options a refusal of it could become a Close."""
    if environ is not None and READABLE_KEY in environ:
        environ[READABLE_KEY].append(functools.partial(_options_for, environ))


def _options_for(environ: dict[str, Any]) -> Options:
    """Return the options for a request: those of the setting, and of its view if it has one."""
    given: dict[str, Any] = {}
    with contextlib.suppress(Resolver404):
        given = getattr(resolve(get_path_info(environ)).func, OPTIONS, {})
    return Options(**{**view_options(), **given})


# The signal comes without an environ too: messages() sends it for each message.
signals.request_started.connect(_note_options, dispatch_uid="syncws.refuse")


def messages(session: Session) -> Iterator[str | bytes]:
    """Yield the session's messages, and handle each one as a request of its own.

    Before it waits for the next message, it gives database connections back, as
    ``CONN_MAX_AGE`` says, and closes those that have broken; the next query opens new ones.
    Call it in the handler's thread. It ends, and raises, as ``for message in session`` does.
    """
    return messages_in_units(session, _unit)


@contextlib.contextmanager
def _unit() -> Iterator[None]:
    signals.request_started.send(sender=messages)
    try:
        yield
    finally:
        signals.request_finished.send(sender=messages)
