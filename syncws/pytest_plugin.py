"""Fixtures for pytest, and a check that no handler outlives its test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import Clock, WebSocketClient

__all__ = ["no_handler_is_left_running", "websocket_client", "websocket_clock"]


@pytest.fixture
def websocket_client() -> Iterator[Callable[..., WebSocketClient]]:
    """``websocket_client(app, **options)`` makes a ``syncws.testing.WebSocketClient``.
    Its sessions are closed at the end of the test."""
    from .testing import WebSocketClient

    clients: list[WebSocketClient] = []

    def make(app: Any, **options: Any) -> WebSocketClient:
        clients.append(WebSocketClient(app, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def websocket_clock() -> Iterator[Clock]:
    """A ``syncws.testing.Clock``, in use during the test."""
    from .testing import Clock

    with Clock() as clock:
        yield clock


@pytest.fixture(autouse=True)
def no_handler_is_left_running() -> Iterator[None]:
    """Fail a test if one of its handlers still runs after it."""
    yield
    if "syncws.testing" not in sys.modules:
        return
    from .testing.application import end_what_runs

    left = end_what_runs()
    if left:
        pytest.fail("still running at the end of the test:\n" + "\n".join(left), pytrace=False)
