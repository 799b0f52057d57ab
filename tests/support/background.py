"""Calls that block, run in threads, and a way to wait for conditions meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import syncws
from syncws import CloseReason

from .pairs import PATIENCE

#: More bytes than the operating system buffers for a peer that does not read.
BIG = b"x" * 16_000_000


class Background:
    """A blocking call in a thread, and its result or exception."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(function, *args, **kwargs)

    def result(self, timeout: float = PATIENCE) -> Any:
        try:
            return self._future.result(timeout)
        finally:
            self._pool.shutdown(wait=False)

    def error(self, timeout: float = PATIENCE) -> BaseException | None:
        try:
            return self._future.exception(timeout)
        finally:
            self._pool.shutdown(wait=False)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds. Use this only for conditions that have no event: a thread has
    begun to wait, or another process has reached some point."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def closed(call: Background) -> CloseReason:
    error = call.error()
    assert isinstance(error, syncws.ConnectionClosed), error
    return error.reason
