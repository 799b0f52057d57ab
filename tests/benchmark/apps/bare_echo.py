"""The least that an echo costs in Python with a thread for each connection.

No library: each frame is found by the size in its header, unmasked by one XOR, and sent back. There
is no lock, no check of what arrives, no end but that of the connection.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import threading

KEY = re.compile(rb"sec-websocket-key: *(\S+)", re.IGNORECASE)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def open_session(connection: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    key = KEY.search(request)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def echo(connection: socket.socket) -> None:
    """Echo messages of up to 125 bytes."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        open_session(connection)
        receive, send = connection.recv, connection.send
        rest = b""
        while data := receive(4096):
            if rest:
                data = rest + data
            start = 0
            while start + 6 <= len(data):
                size = data[start + 1] & 0x7F
                end = start + 6 + size
                if end > len(data):
                    break
                key = data[start + 2 : start + 6] * (size // 4 + 1)
                masked = int.from_bytes(data[start + 6 : end], "big")
                payload = masked ^ int.from_bytes(key[:size], "big")
                send(bytes((data[start], size)) + payload.to_bytes(size, "big"))
                start = end
            rest = data[start:]


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"Listening at: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=run, args=(connection,), daemon=True).start()


def run(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):  # the client has gone
        echo(connection)


if __name__ == "__main__":
    main()
