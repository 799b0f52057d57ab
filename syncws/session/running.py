"""Running a handler on a session, and checking that an object can be a handler."""

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
    """The part of a session that ``run_handler()`` uses."""

    def _start_closing(self, reason: CloseReason) -> None: ...
    def _end(self, reason: CloseReason) -> None: ...


SessionT = TypeVar("SessionT", bound=Runnable)

#: The reason of a session that ended because its handler returned. The message of an exception
#: with this very object explains that.
RETURNED = CloseReason(CloseCode.NORMAL_CLOSURE, "", "local")

#: The reason of a session that ended because its handler raised an exception.
FAILED = CloseReason(CloseCode.INTERNAL_ERROR, "", "error")


def check_handler(handler: Callable[..., Any]) -> None:
    """Raise ``TypeError`` unless ``handler`` is a plain function or another plain callable."""
    check_function(handler)
    check_unmade(handler)
    if _is_any(inspect.isgeneratorfunction, handler):
        raise TypeError(
            f"a handler is a plain function, and not a generator, which nobody would run: put "
            f"@syncws.stream right above {handler!r} if it makes answers of messages"
        )


def check_function(function: Callable[..., Any]) -> None:
    """Raise ``TypeError`` unless ``function`` is callable and is not ``async``."""
    if not callable(function):
        raise TypeError(f"a handler is a function, not {function!r}")
    if _is_any(inspect.iscoroutinefunction, function) or _is_any(
        inspect.isasyncgenfunction, function
    ):
        raise TypeError(f"a handler is a plain function: remove 'async' from {function!r}")


def check_unmade(function: Callable[..., Any]) -> None:
    """Raise ``TypeError`` if another decorator has already turned the handler into a view.

    Such a decorator puts its name into the attribute ``_syncws_made_by`` of the view.
    """
    made_by = getattr(function, "_syncws_made_by", None)
    if made_by is not None:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            f"{name} is not a handler any more, {made_by} has made a view of it: remove {made_by} "
            "from it, and give its options here"
        )


def _is_any(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Whether ``kind()`` holds for a function, or for the ``__call__()`` of an object."""
    return kind(function) or kind(type(function).__call__)


def run_handler(
    session: SessionT,
    handler: Callable[[SessionT], Any],
    failed: Callable[[Exception], object] = lambda error: None,
) -> None:
    """See ``BaseSession.run()``. ``failed`` is called with the exception that the handler
    raised."""
    this: object = session
    try:
        with units_end():
            handler(session)
    except Exception as exc:
        # The end of this session is a normal way to leave the handler. The end of another session
        # is an error that the handler should have caught.
        if not isinstance(exc, ConnectionClosed) or exc.session is not this:
            logger.exception("the handler of %s failed; the session is closed with 1011", session)
            failed(exc)
            session._end(FAILED)
    except BaseException:  # The server handles SystemExit and KeyboardInterrupt.
        session._start_closing(FAILED)
        raise
    session._end(RETURNED)
