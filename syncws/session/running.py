"""Running a handler over a session, and the checks of what can be one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..close import CloseCode, CloseReason
from ..errors import ConnectionClosed
from ..system.logs import logger
from .units import units_end

__all__ = [
    "FAILED",
    "RETURNED",
    "SessionT",
    "check_function",
    "check_handler",
    "check_unmade",
    "run_handler",
]


class Runnable(Protocol):
    """What running a handler needs of its session."""

    def _start_closing(self, reason: CloseReason) -> None: ...
    def _end(self, reason: CloseReason) -> None: ...


SessionT = TypeVar("SessionT", bound=Runnable)

#: How a session ends whose handler returned. An exception with this very object says so.
RETURNED = CloseReason(CloseCode.NORMAL_CLOSURE, "", "local")

#: How a session ends whose handler raised.
FAILED = CloseReason(CloseCode.INTERNAL_ERROR, "", "error")


def check_handler(handler: Callable[..., Any]) -> None:
    """Raise ``TypeError`` unless ``handler`` can be one."""
    check_function(handler)
    check_unmade(handler)
    if _is_any(inspect.isgeneratorfunction, handler):
        raise TypeError(
            f"a handler is a plain function, and not a generator, which nobody would run: put "
            f"@syncws.stream right above {handler!r} if it makes answers of messages"
        )


def check_function(function: Callable[..., Any]) -> None:
    """Raise ``TypeError`` unless ``function`` can be called, and does something then."""
    if not callable(function):
        raise TypeError(f"a handler is a function, not {function!r}")
    if _is_any(inspect.iscoroutinefunction, function) or _is_any(
        inspect.isasyncgenfunction, function
    ):
        raise TypeError(f"a handler is a plain function: remove 'async' from {function!r}")


def check_unmade(function: Callable[..., Any]) -> None:
    """Raise ``TypeError`` if another decorator has made something else of the handler already.

    What such a decorator makes has the decorator's name in ``_syncws_made_by``.
    """
    made_by = getattr(function, "_syncws_made_by", None)
    if made_by is not None:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"{name} is not a handler any more, {made_by} has made a view of it: remove {made_by} "
            "from it, and give its options here"
        )


def _is_any(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Whether a function, or an object with ``__call__()``, is of that kind."""
    return kind(function) or kind(type(function).__call__)


def run_handler(
    session: SessionT,
    handler: Callable[[SessionT], Any],
    failed: Callable[[Exception], object] = lambda error: None,
) -> None:
    """See ``BaseSession.run()``; ``failed`` is called with what the handler raised."""
    this: object = session
    try:
        with units_end():
            handler(session)
    except Exception as exc:
        # Of another session's end its handler knows nothing, and should have.
        if not isinstance(exc, ConnectionClosed) or exc.session is not this:
            logger.exception("the handler of %s failed; the session is closed with 1011", session)
            failed(exc)
            session._end(FAILED)
    except BaseException:  # SystemExit, KeyboardInterrupt: the server's business
        session._start_closing(FAILED)
        raise
    session._end(RETURNED)
