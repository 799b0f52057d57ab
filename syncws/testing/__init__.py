"""Tests of WebSockets without a network.

The application, its middleware, the framework and the session are the real
ones. The peer does what the test tells it::

    from syncws.testing import WebSocketClient

    def test_echo():
        with WebSocketClient(app).connect("/echo") as peer:
            peer.send("hi")
            assert peer.receive() == "hi"

The application runs in a thread, as it does on a server. The connection is a
pair of sockets of this process. There are fixtures for pytest: see
``docs/howto/testing.md``.
"""

from .client import WebSocketClient
from .clock import Clock
from .peer import Peer

__all__ = ["Clock", "Peer", "WebSocketClient"]

# Users read "syncws.testing.Peer" in tracebacks and documentation, wherever the class is defined.
for _member in (Clock, Peer, WebSocketClient):
    _member.__module__ = __name__
del _member
