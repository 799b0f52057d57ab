"""Both ends of a connection, and a peer that the test controls."""

from __future__ import annotations

import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)

#: How many seconds a test waits at most. Only a failing test waits so long.
PATIENCE = 10.0


def tcp_pair(*, receive_buffer: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.socket()
        if receive_buffer is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def tls_pair(
    certificate: tuple[Path, Path], *, receive_buffer: int | None = None
) -> tuple[socket.socket, socket.socket]:
    """Two connected TLS sockets. ``certificate`` has the paths of a key and a certificate."""
    key, cert = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=cert)
    ours, theirs = tcp_pair(receive_buffer=receive_buffer)
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(server.wrap_socket, ours, server_side=True)
        theirs = client.wrap_socket(theirs, server_hostname="localhost")
        return accepted.result(PATIENCE), theirs


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """The bytes of a frame. The frame need not be valid."""
    size = len(payload)
    bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = b"\x11\x22\x33\x44"
    repeated = key * (size // 4 + 1)
    return head + key + bytes(a ^ b for a, b in zip(payload, repeated, strict=False))


class Peer:
    """The other end of a session, by default a client. It sends no answer on its own."""

    def __init__(self, sock: socket.socket, kind: ConnectionType = ConnectionType.CLIENT) -> None:
        self.socket = sock
        self.protocol = Connection(kind)
        self._events: list[Event] = []

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, message: str | bytes) -> None:
        event: Any = TextMessage if isinstance(message, str) else BytesMessage
        self.send_bytes(self.protocol.send(event(message)))

    def ping(self, payload: bytes = b"") -> None:
        self.send_bytes(self.protocol.send(Ping(payload)))

    def pong(self, payload: bytes = b"") -> None:
        self.send_bytes(self.protocol.send(Pong(payload)))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.send_bytes(self.protocol.send(CloseConnection(code, reason)))

    def next_event(self, timeout: float = PATIENCE) -> Event | None:
        """The next event that arrives; None at the end of the stream."""
        deadline = monotonic() + timeout
        while not self._events:
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("nothing arrived from the session")
            self.socket.settimeout(left)
            data = self.socket.recv(65536)
            if not data:
                return None
            self.protocol.receive_data(data)
            self._events.extend(self.protocol.events())
        return self._events.pop(0)

    def receive(self, timeout: float = PATIENCE) -> str | bytes:
        """The next message, assembled from its fragments. Any other event is an error."""
        parts: list[Any] = []
        while True:
            event = self.next_event(timeout)
            assert isinstance(event, (TextMessage, BytesMessage)), event
            parts.append(event.data)
            if event.message_finished:
                joined: str | bytes = type(parts[0])().join(parts)
                return joined

    def expect_ping(self, timeout: float = PATIENCE) -> bytes:
        event = self.next_event(timeout)
        assert isinstance(event, Ping), event
        return bytes(event.payload)

    def expect_pong(self, timeout: float = PATIENCE) -> bytes:
        event = self.next_event(timeout)
        assert isinstance(event, Pong), event
        return bytes(event.payload)

    def expect_close(self, timeout: float = PATIENCE) -> tuple[int, str]:
        event = self.next_event(timeout)
        assert isinstance(event, CloseConnection), event
        return int(event.code), event.reason or ""

    def expect_end(self, timeout: float = PATIENCE) -> None:
        assert self.next_event(timeout) is None

    def answer_close(self, timeout: float = PATIENCE) -> tuple[int, str]:
        """Complete a closing handshake that the session began."""
        closed = self.expect_close(timeout)
        if self.protocol.state is ConnectionState.REMOTE_CLOSING:
            self.send_close(closed[0] if closed[0] != 1005 else 1000)
        return closed

    def close_socket(self) -> None:
        self.socket.close()
