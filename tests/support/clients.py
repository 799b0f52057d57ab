"""Raw clients (a socket, a handshake as bytes, and a peer on top), and a well-behaved one."""

from __future__ import annotations

import socket
import ssl
import threading
from types import TracebackType

import websocket

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
    """Send a request. Returns the head of the response, the socket, and the bytes that followed
    the head."""
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
    """Open a session. ``behind`` is sent in the same segment as the handshake."""
    head, sock, rest = exchange(port, handshake(path, "localhost", *extra) + behind)
    if not head.startswith("HTTP/1.1 101 "):
        sock.close()
        raise AssertionError(head)
    peer = Peer(sock)
    peer.protocol.receive_data(rest)
    peer._events.extend(peer.protocol.events())
    return peer


class Bystander:
    """A well-behaved session that runs while a test attacks the server. It checks that each of its
    messages is answered in time."""

    def __init__(self, port: int) -> None:
        self._client = websocket.create_connection(f"ws://127.0.0.1:{port}/echo", timeout=PATIENCE)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    def _run(self) -> None:
        try:
            number = 0
            # Check once more after the attack, for effects that only its end has.
            while not self._over.wait(0.01) or number == 0:
                self._exchange(f"{number} " + "x" * 1000)
                number += 1
            self._exchange("the end")
        except BaseException as exc:  # noqa: BLE001  # raised where the test sees it
            self._failure = exc

    def _exchange(self, message: str) -> None:
        self._client.send(message)
        assert self._client.recv() == message

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()
        if self._failure is not None:
            raise self._failure
