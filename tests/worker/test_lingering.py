"""Connections whose peers have yet to close, with a poller of the tests' own."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from syncws.worker import lingering
from syncws.worker.lingering import Lingering

from ..support import faults
from ..support.pairs import PATIENCE, tcp_pair


class Connection:
    """As gunicorn has them."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def close(self) -> None:
        self.sock.close()


class Loop:
    """As gunicorn's main thread."""

    def __init__(self) -> None:
        self.poller = selectors.DefaultSelector()
        self.ended: list[Connection] = []
        self.lingering = Lingering(self._note)
        ours, self.peer = tcp_pair()
        self.conn = Connection(ours)

    def _note(self) -> None:
        self.ended.append(self.conn)

    def close(self) -> None:
        self.lingering.close(self.conn, self.poller)

    def turn(self) -> None:
        for key, _ in self.poller.select(PATIENCE):
            key.data(key.fileobj)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.poller.close()
    made.conn.close()
    made.peer.close()


def test_the_rest_of_what_the_peer_sends_is_thrown_away(loop: Loop) -> None:
    loop.conn.sock.sendall(b"the answer")
    loop.close()
    for _ in range(3):
        loop.peer.sendall(b"x" * 4000)
        loop.turn()
    assert not loop.ended
    assert loop.peer.recv(100) == b"the answer"
    assert loop.peer.recv(100) == b""
    loop.peer.close()
    while not loop.ended:
        loop.turn()
    assert loop.conn.sock.fileno() == -1
    assert not loop.poller.get_map()
    assert loop.lingering.wait_at_most(5) == 5


def test_a_peer_that_goes_on_is_cut_off(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "MAX_DRAINED", 10_000)
    loop.close()
    loop.peer.sendall(b"x" * 20_000)
    while not loop.ended:
        loop.turn()
    assert len(loop.ended) == 1


def test_a_peer_that_does_nothing_is_cut_off_in_time(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER", 1000)
    loop.close()
    loop.lingering.expire(loop.poller)
    assert not loop.ended
    left = loop.lingering.wait_at_most(None)
    assert left is not None
    assert 900 < left <= 1000
    assert loop.lingering.wait_at_most(5) == 5
    monkeypatch.setattr(lingering, "monotonic", lambda: float("inf"))
    assert loop.lingering.wait_at_most(5) == 0
    loop.lingering.expire(loop.poller)
    assert len(loop.ended) == 1
    assert loop.conn.sock.fileno() == -1


def test_a_peer_that_has_gone_is_not_waited_for(loop: Loop) -> None:
    faults.reset(loop.peer)
    loop.close()
    while not loop.ended:
        loop.turn()
    assert len(loop.ended) == 1


def test_a_socket_that_is_closed(loop: Loop) -> None:
    loop.conn.close()
    loop.close()
    assert len(loop.ended) == 1
