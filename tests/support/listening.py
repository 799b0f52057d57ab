"""A server for ``connect()`` that the test controls."""

from __future__ import annotations

import socket
from typing import Any

import h11
from wsproto.connection import ConnectionType
from wsproto.utilities import generate_accept_token

from syncws import ClientSession, connect

from .background import Background
from .pairs import PATIENCE, Peer


class Listener:
    """A listening socket as a server. The test decides what it answers."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        self.socket = sock or socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.peers: list[Peer] = []

    @property
    def url(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"ws://[{host}]:{port}/" if ":" in host else f"ws://{host}:{port}/"

    def accept(self) -> tuple[Peer, h11.Request]:
        """Accept a connection. Returns it and its request."""
        sock, _ = self.socket.accept()
        sock.settimeout(PATIENCE)
        peer = Peer(sock, ConnectionType.SERVER)
        self.peers.append(peer)
        received = b""
        while b"\r\n\r\n" not in received:
            part = sock.recv(65536)
            if not part:
                raise EOFError("the client ended the connection within its request")
            received += part
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(received)
        request = connection.next_event()
        assert isinstance(request, h11.Request)
        return peer, request

    def open(self, *extra: str, behind: bytes = b"") -> Peer:
        """Accept a connection and the session on it."""
        peer, request = self.accept()
        peer.send_bytes(accepting(request, *extra) + behind)
        return peer

    def connect(
        self, *extra: str, behind: bytes = b"", **options: Any
    ) -> tuple[ClientSession, Peer]:
        """Open a session. Returns it and the server's end of it."""
        opening = Background(self.open, *extra, behind=behind)
        session = connect(self.url, **options)
        return session, opening.result()

    def close(self) -> None:
        self.socket.close()
        for peer in self.peers:
            peer.close_socket()


def accepting(request: h11.Request, *extra: str) -> bytes:
    key = dict(request.headers)[b"sec-websocket-key"]
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {generate_accept_token(key).decode()}",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def nothing_is_left_of(session: ClientSession) -> bool:
    return session._socket.fileno() == -1 and session._attending._thread is None


def drop(session: ClientSession) -> None:
    """End a session in a test that does not check how it ends."""
    session.terminate()
    session.close()
    assert nothing_is_left_of(session)
