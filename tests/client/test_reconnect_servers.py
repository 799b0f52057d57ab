"""reconnect() with servers of other projects, in processes that are stopped, killed and started.

Our own: gunicorn with the worker class.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncws import Backoff, ClientSession, HandshakeError, reconnect
from syncws.client.reconnect import Reconnecting

from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn

pytestmark = pytest.mark.load  # each test starts a server, most of them two

#: Kinds of servers, and the codes with which they say goodbye on SIGTERM.
GOODBYES = {"websockets": 1001, "aiohttp": 1001, "uvicorn": 1012, "syncws": 1001}

QUICK = Backoff(first=0.05, most=0.2)


def start(kind: str, port: int = 0) -> Server:
    if kind == "syncws":
        return gunicorn("tests.support.app:app", f"--bind=127.0.0.1:{port}")
    command = ["-m", "tests.support.foreign_servers", kind, str(port)]
    return Server(command, r"Listening on 127\.0\.0\.1:(\d+)")


class Client:
    """A program that stays connected and says something in each session."""

    def __init__(self, port: int, path: str) -> None:
        self.failures: list[Exception] = []
        self.waits: list[float] = []
        self.sessions: list[ClientSession] = []
        url = f"ws://127.0.0.1:{port}{path}"
        self.connecting = reconnect(url, backoff=QUICK, on_wait=self._note, proxy=None)
        self._running = Background(self._run)

    def _note(self, seconds: float, failure: Exception) -> None:
        self.waits.append(seconds)
        self.failures.append(failure)

    def _run(self) -> None:
        for session in self.connecting:
            with session:
                session.send("hello")
                assert session.receive(PATIENCE) == "hello"
                self.sessions.append(session)
                session.receive()

    def stop(self) -> BaseException | None:
        self.connecting.close()
        return self._running.error()


@pytest.fixture
def client() -> Iterator[Callable[[int, str], Client]]:
    made: list[Client] = []

    def make(port: int, path: str) -> Client:
        made.append(Client(port, path))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", GOODBYES)
def test_f7_a_server_that_is_stopped_and_started(
    kind: str, number: signal.Signals, client: Callable[[int, str], Client]
) -> None:
    path = "/echo" if kind == "syncws" else "/"
    with start(kind) as server:
        port = server.port
        running = client(port, path)
        wait_until(lambda: running.sessions)
        if number == signal.SIGTERM:
            server.stop()
        else:
            server.kill()
        first = running.sessions[0]
        reason = first.wait_closed(PATIENCE)
    assert reason.code == (GOODBYES[kind] if number == signal.SIGTERM else 1006)
    with start(kind, port):
        wait_until(lambda: len(running.sessions) == 2)
        assert running.stop() is None


@pytest.fixture(params=["websockets", "aiohttp", "uvicorn"], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with start(request.param) as running:
        yield running


def test_f7_a_server_that_says_when_to_come_back(
    server: Server, client: Callable[[int, str], Client]
) -> None:
    running = client(server.port, "/busy")
    wait_until(lambda: running.waits)
    assert running.stop() is None
    (failure,) = running.failures
    assert isinstance(failure, HandshakeError)
    assert failure.status == 503
    assert 1000 <= running.waits[0] <= 1001


def test_f7_a_server_that_wants_to_know_who_it_is(
    server: Server, client: Callable[[int, str], Client]
) -> None:
    running = client(server.port, "/secret")
    failure = running._running.error()
    assert isinstance(failure, HandshakeError)
    assert failure.status == 401
    assert running.failures == []


def test_f7_clients_of_a_server_that_restarts_come_back_spread_over_time() -> None:
    """A hundred of them, with the default first wait. The system decides when they arrive, so the
    test checks what they wait for."""
    number = 100
    backoff = Backoff(most=2.0)  # the test does not wait longer
    waits: list[float] = []
    arrived: list[float] = []

    def run(connecting: Reconnecting) -> None:
        for session in connecting:
            with session:
                arrived.append(time.monotonic())
                session.receive()

    with contextlib.ExitStack() as stack:
        with start("syncws") as server:
            url = f"ws://127.0.0.1:{server.port}/echo"
            clients = [
                reconnect(
                    url,
                    backoff=backoff,
                    on_wait=lambda seconds, _: waits.append(seconds),
                    proxy=None,
                )
                for _ in range(number)
            ]
            running = [Background(run, each) for each in clients]
            for each in clients:
                stack.callback(each.close)
            wait_until(lambda: len(arrived) == number)
            server.stop()
            wait_until(lambda: len(waits) >= number)
            first_waits = waits[:number]
        with start("syncws", server.port):
            wait_until(lambda: len(arrived) == 2 * number)
            for each in clients:
                each.close()
    for background in running:
        background.result()
    assert len({int(seconds * 20) for seconds in first_waits}) >= 8, "of ten parts of 0.5 s"
    back = sorted(arrived[number:])
    busiest = max(sum(at <= other < at + 0.05 for other in back) for at in back)
    print(f"{number} clients came back within {back[-1] - back[0]:.2f} s, {busiest} within 50 ms")


def test_f7_a_name_that_nobody_knows() -> None:
    """RFC 6761 section 6.4: no name below ``invalid`` exists. The resolver is the system's."""
    failures: list[Any] = []

    def note(seconds: float, failure: Exception) -> None:
        failures.append(failure)
        if len(failures) == 2:
            connecting.close()

    connecting = reconnect("ws://no-such-host.invalid/", backoff=QUICK, on_wait=note, proxy=None)
    assert list(connecting) == []
    assert all(isinstance(failure, socket.gaierror | TimeoutError) for failure in failures)
