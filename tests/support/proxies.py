"""A TCP proxy between a hub and its Redis. It loses the data that a test tells it to lose."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Proxy:
    """Forwards bytes in both directions until a test stops it. Any thread may call every
    method."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # Guards all fields below.
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lose_answer_to: bytes | None = None
        self._dead: set[socket.socket] = set()
        #: How many requests contained the text that the test watches for.
        self.seen = 0
        self._watch: bytes | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def watch(self, text: bytes, *, lose_answer: bool) -> None:
        """Count requests that contain ``text``. The connection of the next one ends without an
        answer."""
        with self._lock:
            self._watch, self.seen = text, 0
            self._lose_answer_to = text if lose_answer else None

    def die_silently(self) -> None:
        """Stop forwarding on all existing connections, without ending them."""
        with self._lock:
            self._dead.update(sock for pair in self._pairs for sock in pair)

    def cut(self) -> None:
        """End all existing connections."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            for sock in pair:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            self._thread.join()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    else:
                        self._pass(selector, key.data)
            for pair in self._pairs:
                for sock in pair:
                    sock.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with self._lock:
            self._pairs.append((client, server))
        selector.register(client, selectors.EVENT_READ, (client, server, True))
        selector.register(server, selectors.EVENT_READ, (server, client, False))

    def _pass(
        self, selector: selectors.BaseSelector, data: tuple[socket.socket, socket.socket, bool]
    ) -> None:
        source, target, request = data
        try:
            got = source.recv(65536)
        except OSError:
            got = b""
        with self._lock:
            lost = source in self._dead
            if request and self._watch is not None and self._watch in got:
                self.seen += 1
            if request and self._lose_answer_to is not None and self._lose_answer_to in got:
                # The request reaches Redis, but the answer and all later data are lost.
                self._lose_answer_to = None
                target.sendall(got)
                target.recv(1)
                got = b""
        if not got:
            for sock in (source, target):
                with contextlib.suppress(KeyError, ValueError):
                    selector.unregister(sock)
                sock.close()
            with self._lock:
                self._pairs = [pair for pair in self._pairs if source not in pair]
        elif not lost:
            with contextlib.suppress(OSError):
                target.sendall(got)
