"""A raw client: a socket, a handshake as bytes, and a peer on top."""

from __future__ import annotations

import socket
import ssl

from .pairs import PATIENCE, Peer

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(path: str, host: str = "localhost", *extra: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def exchange(
    port: int, request: bytes, *, tls: ssl.SSLContext | None = None
) -> tuple[str, socket.socket, bytes]:
    """Send a request; gives the response's head, the socket, and what came behind."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        if tls is not None:
            sock = tls.wrap_socket(sock)
        sock.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            data = sock.recv(65536)
            if not data:
                break
            received += data
    except BaseException:
        sock.close()
        raise
    head, _, rest = received.partition(b"\r\n\r\n")
    return head.decode("latin-1"), sock, rest


def connect(port: int, path: str, *extra: str, behind: bytes = b"") -> Peer:
    """Open a session; ``behind`` is sent in the same segment as the handshake."""
    head, sock, rest = exchange(port, handshake(path, "localhost", *extra) + behind)
    assert head.startswith("HTTP/1.1 101 "), head
    peer = Peer(sock)
    peer.protocol.receive_data(rest)
    peer._events.extend(peer.protocol.events())
    return peer
