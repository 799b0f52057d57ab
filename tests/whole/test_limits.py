"""rate and sessions_per under serve() and gunicorn, with peers over real connections."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

import syncws
from syncws import HandshakeError

from ..support.background import wait_until
from ..support.clients import connect
from ..support.limited_app import application
from ..support.pairs import PATIENCE, frame
from ..support.servers import gunicorn

#: Bytes that the system and read-ahead may hold for a peer. A peer without limits sends more.
ENOUGH = 64 * 1024 * 1024


@pytest.fixture(params=["serve", "worker"], scope="module")
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "serve":
        with syncws.serve(application, "127.0.0.1") as server:
            yield server.port
    else:
        with gunicorn("tests.support.limited_app:application") as running:
            yield running.port


def sessions_open(port: int) -> int:
    stats: dict[str, Any] = requests.get(f"http://127.0.0.1:{port}/status", timeout=PATIENCE).json()
    number: int = stats["open"]
    return number


def test_f11_pings_of_a_limited_peer_are_answered(port: int) -> None:
    with syncws.connect(f"ws://127.0.0.1:{port}/three", proxy=None) as session:
        for number in range(10):
            session.send(str(number))
        assert [session.receive(PATIENCE) for _ in range(3)] == ["0", "1", "2"]
        session.ping().result(PATIENCE)
        with pytest.raises(TimeoutError):
            session.receive(0.2)


@pytest.mark.load  # two seconds for each server
def test_f11_tcp_holds_a_peer_back(port: int) -> None:
    peer = connect(port, "/held")
    peer.socket.setblocking(False)
    data = frame(2, b"x" * 1024 * 1024, masked=True)
    rest, sent = memoryview(data), 0
    deadline = time.monotonic() + 2.0
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([], [peer.socket], [], left)[1]:
            break
        written = peer.socket.send(rest)
        sent += written
        rest = rest[written:] or memoryview(data)
        assert sent < ENOUGH, "nothing holds the peer back"
    assert sessions_open(port) == 1
    peer.close_socket()
    wait_until(lambda: sessions_open(port) == 0)


def test_f11_a_rate_over_time(port: int) -> None:
    begun = time.monotonic()  # the time before the first message counts for the peer
    with syncws.connect(f"ws://127.0.0.1:{port}/steady", proxy=None) as session:
        for number in range(40):
            session.send(str(number))
        for number in range(40):
            assert session.receive(PATIENCE) == str(number)
            assert time.monotonic() - begun >= (number + 1 - 5) / 50 - 0.01


def test_f11_sessions_of_a_client(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/few"
    with syncws.connect(url, proxy=None), syncws.connect(url, proxy=None):
        with pytest.raises(HandshakeError) as caught:
            syncws.connect(url, proxy=None)
        assert caught.value.status == 429
        assert dict(caught.value.headers)["Retry-After"] == "5"

    def another() -> bool:
        try:
            syncws.connect(url, proxy=None).close()
        except HandshakeError:
            return False  # the handlers of the others have not returned yet
        return True

    wait_until(another)
