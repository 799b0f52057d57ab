"""Attacks of peers on a worker, while another session on the same worker goes on undisturbed.

An attack costs at most the attacker's own session, and a bounded amount of memory.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from wsproto.events import CloseConnection, Pong

from ..support.background import Background, wait_until
from ..support.clients import (
    Bystander,
    connect,
    exchange,
    handshake,
)
from ..support.pairs import PATIENCE, frame
from ..support.processes import resident_bytes
from ..support.servers import Server, gunicorn, status_when
from .test_load import worker_pid

#: How many bytes the worker may grow by during an attack. Messages of 1 MiB are accepted, and a
#: few copies of a message exist while it is processed.
GROWTH = 24 * 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn() as running:
        yield running
        running.stop()
        assert "Traceback" not in running.output


@pytest.fixture(autouse=True)
def nobody_else_notices(server: Server) -> Iterator[None]:
    pid = worker_pid(server)
    before = resident_bytes(pid)
    with Bystander(server.port):
        yield
        assert resident_bytes(pid) - before < GROWTH
    status = status_when(
        server, lambda status: status["threads"] == 0 and status["connections"] == 1
    )
    assert status["pid"] == pid, "the worker has been replaced"


# Before there is a session


def test_slow_handshakes(server: Server) -> None:
    """There are more slow handshakes than threads. They disturb no session, and all of them are
    served in the end."""
    socks = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(10)]
    request = handshake("/echo")
    for start in range(0, len(request) - 1, 10):
        for sock in socks:
            sock.sendall(request[start : min(start + 10, len(request) - 1)])
    for sock in socks:
        sock.sendall(request[-1:])
    for sock in socks:
        assert sock.recv(100).startswith(b"HTTP/1.1 101 ")
        sock.close()


def test_handshakes_that_are_never_finished(server: Server) -> None:
    socks = []
    for size in range(0, 150, 5):
        sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        sock.sendall(handshake("/echo")[:size])
        socks.append(sock)
    for sock in socks:
        sock.close()
    assert server.get("/").ok


@pytest.mark.parametrize(
    "header",
    ["X: " + "x" * 100_000, "\r\n".join(f"X-{number}: x" for number in range(1000)), "x" * 100_000],
    ids=["long", "many", "no end"],
)
def test_handshake_that_is_too_large(server: Server, header: str) -> None:
    head, sock, _ = exchange(server.port, handshake("/echo", "localhost", header))
    sock.close()
    assert head.split()[1] in ("400", "431"), head


def test_half_open_connections_are_bounded() -> None:
    """``worker_connections`` is the bound. A new connection replaces the one that has been silent
    longest."""

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    with (
        gunicorn("tests.support.app:app", "--worker-connections=50") as server,
        Bystander(server.port),
        ExitStack() as stack,
    ):
        pid = worker_pid(server)
        before = descriptors()
        address = ("127.0.0.1", server.port)
        socks = [stack.enter_context(socket.create_connection(address)) for _ in range(300)]
        wait_until(lambda: descriptors() >= before + 45)
        # The last connection is served: the ones that have been silent longest make room for it.
        socks[-1].settimeout(PATIENCE)
        socks[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert socks[-1].recv(100).startswith(b"HTTP/1.1 200 ")
        socks[0].settimeout(PATIENCE)
        assert socks[0].recv(100) == b""
        # A thread that waits has one or two more of its own.
        assert descriptors() < before + 60
        for sock in socks:
            sock.close()
        status_when(
            server,
            lambda status: status["connections"] == 2 and status["descriptors"] < before + 10,
        )


# Frames


def test_flood_of_pings_without_reading(server: Server) -> None:
    """The latest ping is answered, and no other pong waits for room."""
    peer = connect(server.port, "/echo")
    for start in range(0, 50_000, 1000):
        peer.send_bytes(b"".join(frame(9, b"%0125d" % n) for n in range(start, start + 1000)))
    while isinstance(event := peer.next_event(), Pong):
        if int(event.payload) == 49_999:
            break
    assert isinstance(event, Pong)
    peer.send("still here")
    assert peer.receive() == "still here"
    peer.close_socket()


def test_flood_of_messages_without_reading(server: Server) -> None:
    """TCP holds back a peer that sends more messages than its handler can answer."""
    peer = connect(server.port, "/echo")
    peer.socket.settimeout(0.5)
    flood = frame(2, b"x" * 1_000_000) * 50
    with pytest.raises(TimeoutError):
        peer.send_bytes(flood)
    peer.close_socket()


def test_flood_of_one_byte_fragments(server: Server) -> None:
    peer = connect(server.port, "/echo")
    sending = Background(
        peer.send_bytes,
        frame(1, b"x", fin=False) + frame(0, b"y", fin=False) * 30_000 + frame(0, b"z"),
    )
    assert peer.receive(3 * PATIENCE) == "x" + "y" * 30_000 + "z"
    sending.result()
    peer.close_socket()


def test_flood_of_empty_fragments(server: Server) -> None:
    """Empty fragments do not count for any limit, and take no memory."""
    peer = connect(server.port, "/echo")
    peer.send_bytes(frame(1, fin=False) + frame(0, fin=False) * 30_000 + frame(0))
    assert peer.receive(3 * PATIENCE) == ""
    peer.close_socket()


def test_fragments_beyond_the_limit(server: Server) -> None:
    peer = connect(server.port, "/limited")
    peer.send_bytes(frame(2, b"x", fin=False) + frame(0, b"x", fin=False) * 100)
    assert peer.expect_close()[0] == 1009
    peer.close_socket()


@pytest.mark.parametrize("first", [b"\x81", b"\x82"])
@pytest.mark.parametrize(
    ("size", "code"), [(2**20 + 1, 1009), (2**40, 1009), (2**63 - 1, 1009), (2**63, 1002)]
)
def test_oversized_length(server: Server, first: bytes, size: int, code: int) -> None:
    """The message is refused before any of its payload has arrived."""
    peer = connect(server.port, "/echo")
    peer.send_bytes(first + b"\xff" + size.to_bytes(8, "big") + b"key!")
    assert peer.expect_close()[0] == code
    peer.close_socket()


def test_oversized_length_of_a_fragment(server: Server) -> None:
    """The session ends when more bytes of the fragment have arrived than a message may have."""
    peer = connect(server.port, "/echo")
    peer.send_bytes(b"\x02\xff" + (2**62).to_bytes(8, "big") + b"key!")
    peer.send_bytes(b"x" * (2**20 + 1))
    assert peer.expect_close()[0] == 1009
    peer.close_socket()


@pytest.mark.parametrize("fin", [True, False], ids=["whole", "in fragments"])
def test_bombs(server: Server, fin: bool) -> None:
    """Each message is 200 KB that decompress to 200 MB of zeros."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -12)
    zeros = bytes(1_000_000)
    bomb = b"".join(deflater.compress(zeros) for _ in range(200)) + deflater.flush()
    sent = frame(2, bomb[:100_000], fin=fin, rsv=4)
    if not fin:
        sent += frame(0, bomb[100_000:])
    peers = [
        connect(server.port, "/compressed", "Sec-WebSocket-Extensions: permessage-deflate")
        for _ in range(5)
    ]
    for peer in peers:
        peer.send_bytes(sent)
    for peer in peers:
        assert peer.expect_close() == (1009, "message larger than 1048576 bytes")
        peer.close_socket()


# Sessions whose peers have fallen silent


def test_peers_that_fall_silent(server: Server) -> None:
    """Each session ends because its peer sends no pong."""
    peers = [connect(server.port, "/pings") for _ in range(50)]
    for peer in peers:
        assert peer.expect_ping()
    for peer in peers:
        while not isinstance(event := peer.next_event(), CloseConnection):
            assert event is not None
        assert event.code == 1011
        peer.close_socket()
