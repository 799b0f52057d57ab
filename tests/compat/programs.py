"""The programs of ``tests/support/compat_programs_app.py``, as their peers see them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import requests
import socketio

from ..support.clients import exchange, handshake
from ..support.pairs import PATIENCE, Peer, frame
from ..support.servers import Server

APP = "tests.support.compat_programs_app:app"
SOCKETIO = "/socket.io/?EIO=4&transport=websocket"


class Program(NamedTuple):
    """One program: where it is, and what its peers send to get an answer."""

    path: str
    flood: str
    #: A message, and the beginning of its answer. Without a message, the answer is a push.
    message: str
    answer: str
    #: What the peer sends, and gets, before it is served: Socket.IO has a handshake of its own.
    joins: str = ""

    def open(
        self, server: Server, *, tls: ssl.SSLContext | None = None, path: str = "", early: str = ""
    ) -> Peer:
        """Open a session. ``early`` is a message in the packet of the handshake."""
        behind = frame(1, early.encode()) if early else b""
        request = handshake(path or self.path) + behind
        head, sock, rest = exchange(server.port, request, tls=tls)
        if not head.startswith("HTTP/1.1 101 "):
            sock.close()
            raise AssertionError(head)
        peer = Peer(sock)
        peer.protocol.receive_data(rest)
        peer._events.extend(peer.protocol.events())
        if self.joins:
            assert str(peer.receive()).startswith("0{"), "engineio's greeting"
        return peer

    def join(self, peer: Peer) -> None:
        if self.joins:
            peer.send(self.joins)
            assert str(peer.receive()).startswith("40{")

    def speak(self, peer: Peer) -> None:
        """Send a message and get its answer. The session has joined."""
        if self.message:
            peer.send(self.message)
            assert str(peer.receive()).startswith(self.answer)


PROGRAMS = {
    "flask-sock": Program("/echo", "/flood", "hello", "hello"),
    "a view on simple-websocket": Program("/own-view", "", "hello", "hello"),
    "plain WSGI": Program("/plain", "/plain/flood", "hello", "hello"),
    "Flask-SocketIO": Program(SOCKETIO, SOCKETIO, '42["say","hello"]', '42["heard","hello"', "40"),
    "Turbo-Flask": Program("/turbo-stream", "", "", ""),
}


@contextmanager
def socketio_client(server: Server, *transports: str) -> Iterator[Any]:
    """python-socketio's client, connected. It does not close its connections for polling itself."""
    with requests.Session() as http:
        client = socketio.SimpleClient(http_session=http)
        client.connect(
            server.url("/", "http"), transports=list(transports), wait_timeout=3 * PATIENCE
        )
        try:
            yield client
        finally:
            client.disconnect()
