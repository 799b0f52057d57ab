"""Resolving the futures that users wait for, and whose callbacks are their code."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["resolve"]

Result = TypeVar("Result")

logger = logging.getLogger("syncws")


def resolve(future: Future[Result], result: Result | BaseException) -> None:
    """Resolve ``future`` with a result or with an exception; raises nothing.

    By who holds no lock: callbacks are run here. Of what they raise a future
    itself logs an ``Exception``; another one, ``SystemExit`` for one, would end
    a thread that has more to do.
    """
    try:
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
    except BaseException:  # what is no Exception, of a callback
        logger.exception("a callback of %r left by an exception that ends threads", future)
