"""Tests of WebSockets without a network: the real application, middleware,
framework and session, and a peer that does what the test tells it::

    from syncws.testing import WebSocketClient

    def test_echo():
        with WebSocketClient(app).connect("/echo") as peer:
            peer.send("hi")
            assert peer.receive() == "hi"

The application runs in a thread, as it does on a server; the connection is a
pair of sockets of this process. With pytest there are fixtures, too: see
``docs/testing.md``.
"""

from .client import WebSocketClient
from .clock import Clock
from .peer import Peer

__all__ = ["Clock", "Peer", "WebSocketClient"]
