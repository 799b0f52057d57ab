"""Guards are decorators of views that may refuse a request, such as ``login_required``.

A guard above ``@websocket`` refuses before the WebSocket opens. A guard below it decorates
the handler, which runs after that: the handler's result closes the session then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponseBase

from ..close import CloseCode, CloseReason
from ..session.common import CommonSession
from ..system.logs import logger

__all__ = ["late_guards", "run_view"]

#: Modules whose decorators never refuse, such as ``sensitive_variables``.
_NO_GUARDS = frozenset({"django.views.decorators.debug"})

#: What Django answers when a view raises one of these.
_STATUS: list[tuple[type[Exception], int]] = [
    (Http404, 404),
    (PermissionDenied, 403),
    (SuspiciousOperation, 400),
]


def late_guards(handler: Any) -> Iterator[str]:
    """Yield the modules of Django's decorators on a handler, the outermost first.

    A decorator is known by the module of its wrapper's code. Decorators of other packages are
    not known; ``run_view()`` notices them when they refuse.
    """
    while handler is not None:
        module = str(getattr(handler, "__globals__", {}).get("__name__", ""))
        if module.startswith("django.") and module not in _NO_GUARDS:
            yield module
        handler = getattr(handler, "__wrapped__", None)


def run_view(view: Callable[[], Any], session: CommonSession) -> None:
    """Run the view as a handler. A response that comes too late closes the session."""
    try:
        result = view()
    except (Http404, PermissionDenied, SuspiciousOperation) as exc:
        status = next(status for kind, status in _STATUS if isinstance(exc, kind))
    else:
        if not isinstance(result, HttpResponseBase):
            return
        status = result.status_code
    logger.warning(
        "the handler of %s answers with the status %d, which is too late: check before the "
        "WebSocket opens, with a decorator above @websocket, or in middleware",
        session,
        status,
    )
    code = CloseCode.POLICY_VIOLATION if status < 500 else CloseCode.INTERNAL_ERROR
    session._end(CloseReason(code, "", "local"))
