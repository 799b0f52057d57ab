"""Resolving the futures that users wait for; their callbacks are users' code."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TypeVar

from .logs import logger

__all__ = ["resolve"]

Result = TypeVar("Result")


def resolve(future: Future[Result], result: Result | BaseException) -> None:
    """Resolve ``future`` with a result or with an exception; raises nothing.

    Call it without holding a lock: it runs the future's callbacks. If a callback raises an
    ``Exception``, the future logs it. Any other exception, such as ``SystemExit``, would end
    this thread, which has more to do; it is logged here.
    """
    try:
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
    except BaseException:  # raised by a callback, and not an Exception
        logger.exception("a callback of %r raised an exception that would end the thread", future)
