"""The environ of an opening handshake."""

from __future__ import annotations

from typing import Any

#: The Sec-WebSocket-Key of the example in RFC 6455 section 1.2.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(**changes: str | None) -> dict[str, Any]:
    """The environ of the example in RFC 6455 section 1.2, with changes. None removes an entry."""
    environ: dict[str, str | None] = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "server.example.com",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        **changes,
    }
    return {name: value for name, value in environ.items() if value is not None}
