"""simple-websocket's exceptions: its own classes if it is installed, so that ``except``
clauses of existing programs catch them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from wsproto.frame_protocol import CloseReason

__all__ = ["ConnectionClosed", "ConnectionError", "SimpleWebsocketError"]


class SimpleWebsocketError(RuntimeError):
    """The base of the two exceptions below."""


class ConnectionError(SimpleWebsocketError):
    """The opening handshake has failed; ``status_code`` is the HTTP status, or None."""

    def __init__(self, status_code: int | None = None) -> None:
        self.status_code = status_code
        super().__init__(f"Connection error: {status_code}")


class ConnectionClosed(SimpleWebsocketError):
    """The connection has ended; ``reason`` is the close code, ``message`` its text or None."""

    def __init__(
        self, reason: int = CloseReason.NO_STATUS_RCVD, message: str | None = None
    ) -> None:
        self.reason = reason
        self.message = message
        super().__init__(f"Connection closed: {reason} {message or ''}")


if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):
        from simple_websocket.errors import (  # the library's own come first
            ConnectionClosed,
            ConnectionError,
            SimpleWebsocketError,
        )
