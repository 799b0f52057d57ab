"""How many opening handshakes a stopping worker brings to another: ``python -m tests.soak.deploy``.

Sessions are opened with one gunicorn, which gets SIGTERM. Each client that is told 1001 opens
a session with another gunicorn at once, as browsers' scripts do. What that one sees is printed,
with and without ``SYNCWS_GOODBYE_SECONDS``.
"""

from __future__ import annotations

import argparse
import selectors
import signal
import socket
import time
from collections import Counter

from ..support.clients import handshake
from ..support.pairs import frame
from ..support.processes import allow_descriptors
from ..support.servers import gunicorn

HANDSHAKE = handshake("/echo")

#: The sockets of the new sessions, open until the end of a run.
KEPT: list[socket.socket] = []


def connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(HANDSHAKE)
    return sock


def move(old: list[socket.socket], port: int) -> tuple[list[float], list[float]]:
    """Open a session at ``port`` for each of ``old`` that is told to go; gives the moments and
    the durations of their handshakes."""
    selector = selectors.DefaultSelector()
    for sock in old:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, None)
    moments: list[float] = []
    durations: list[float] = []
    while len(moments) < len(old):
        for key, _ in selector.select(60):
            sock = key.fileobj  # type: ignore[assignment]  # each is a socket
            data = sock.recv(4096)
            if key.data is None and data.startswith(b"\x88"):
                sock.sendall(frame(8, data[2:]))
                selector.unregister(sock)
                sock.close()
                started = time.monotonic()
                selector.register(connected(port), selectors.EVENT_READ, started)
            elif key.data is not None:
                assert data.startswith(b"HTTP/1.1 101"), data
                moments.append(time.monotonic())
                durations.append(moments[-1] - key.data)
                selector.unregister(sock)
                KEPT.append(sock)
    selector.close()
    return moments, durations


def run(sessions: int, seconds: float) -> None:
    limit = f"--worker-connections={sessions + 100}"
    spread = f"--env=SYNCWS_GOODBYE_SECONDS={seconds}"
    with (
        gunicorn("tests.support.app:app", limit, spread) as stopping,
        gunicorn("tests.support.app:app", limit) as other,
    ):
        old = [connected(stopping.port) for _ in range(sessions)]
        for sock in old:
            assert sock.recv(4096).startswith(b"HTTP/1.1 101")
        stopping.signal(signal.SIGTERM)
        moments, durations = move(old, other.port)
        tenths = Counter(int(moment * 10) for moment in moments)
        durations.sort()
        print(
            f"{sessions} sessions told over {seconds:g} s: all back after "
            f"{max(moments) - min(moments):.1f} s, {max(tenths.values())} of them within 0.1 s; "
            f"a handshake takes {durations[len(durations) // 2] * 1000:.0f} ms at the "
            f"median, {durations[-1] * 1000:.0f} ms at most"
        )
        while KEPT:
            KEPT.pop().close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    allow_descriptors(3 * arguments.sessions + 200)
    run(arguments.sessions, 0.0)
    run(arguments.sessions, arguments.seconds)
