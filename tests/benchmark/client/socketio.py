"""Socket.IO clients on WebSocket: one process, one thread, and no library between.

    python -m tests.benchmark.client.socketio events PORT CLIENTS SECONDS DEPTH
    python -m tests.benchmark.client.socketio fit PORT MOST

``events`` has each client keep DEPTH events in flight, and counts the answers. ``fit`` opens up
to MOST clients, as long as each is greeted, and a page beside them comes, within ``PATIENCE``.
The output is that of the programs in C.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import sys
import time

#: Seconds.
PATIENCE = 3.0

#: An event with 32 characters, whose answer the server sends as the same event.
EVENT = '42["say","' + "x" * 32 + '"]'

_REQUEST = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(text: str) -> bytes:
    """A text message, masked with zeros, which leaves it as it is."""
    data = text.encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


class Client:
    """One connection, which has joined."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._received = b""
        try:
            self.socket.sendall(_REQUEST)
            while b"\r\n\r\n" not in self._received:
                self._read()
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                raise ConnectionError(f"refused to upgrade: {head.decode('latin-1')}")
            self._wait_for(b"0")
            self.socket.sendall(frame("40"))
            self._wait_for(b"40")
        except BaseException:
            self.socket.close()
            raise

    def _read(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._received += data

    def _wait_for(self, start: bytes) -> None:
        while True:
            for message in self.messages():
                if message.startswith(start):
                    return
            self._read()

    def messages(self) -> list[bytes]:
        """The payloads of the whole frames that have been read. All are short."""
        found = []
        data, at = self._received, 0
        while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
            end = at + 2 + data[at + 1]
            found.append(data[at + 2 : end])
            at = end
        self._received = data[at:]
        return found

    def answers(self) -> int:
        """Read once, and count the answers."""
        self._read()
        return sum(message.startswith(b"42") for message in self.messages())


def events(port: int, count: int, seconds: float, depth: int) -> dict[str, float]:
    clients = [Client(port) for _ in range(count)]
    event = frame(EVENT)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        print("ready", flush=True)
        began, cpu = time.monotonic(), time.process_time()
        for client in clients:
            client.socket.sendall(event * depth)
        answered = 0
        while time.monotonic() < began + seconds:
            for key, _ in selector.select(PATIENCE):
                number = key.data.answers()
                answered += number
                key.data.socket.sendall(event * number)
        wall = time.monotonic() - began
    for client in clients:
        client.socket.close()
    return {"rate": answered / wall, "wall_s": wall, "cpu_s": time.process_time() - cpu}


def page_comes(port: int) -> bool:
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return plain.recv(100).startswith(b"HTTP/1.1 200 ")
    return False


def fit(port: int, most: int) -> dict[str, float]:
    print("ready", flush=True)
    clients: list[Client] = []
    fitting = 0
    with contextlib.suppress(OSError):
        while len(clients) < most:
            clients.append(Client(port))
            if not page_comes(port):
                break
            fitting = len(clients)
    for client in clients:
        client.socket.close()
    return {"clients": fitting}


def main() -> None:
    kind, port, *rest = sys.argv[1:]
    if kind == "events":
        count, seconds, depth = rest
        print(json.dumps(events(int(port), int(count), float(seconds), int(depth))))
    else:
        print(json.dumps(fit(int(port), int(rest[0]))))


if __name__ == "__main__":
    main()
