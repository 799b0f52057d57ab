"""The proxies of ``docs/deploy`` in front of gunicorn: nginx, haproxy and Apache."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

from ..support import faults
from ..support.fronts import FRONTS, Front, Nginx
from ..support.servers import Server, gunicorn, status_when


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for a Unix socket: with a short name, and open to the user of a proxy."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """gunicorn that listens on a Unix socket and on a port."""
    with (
        temporary_folder() as folder,
        gunicorn(
            "tests.support.app:behind_a_proxy()", f"--bind=unix:{folder}/gunicorn.sock"
        ) as server,
    ):
        yield server
        server.stop()
        assert "Traceback" not in server.output


def socket_of(server: Server) -> str:
    return str(server.wait_for_line(r"Listening at: .*(unix:[^ ]+)")[1])


@pytest.fixture(scope="module", params=FRONTS)
def front(request: pytest.FixtureRequest, server: Server) -> Iterator[Front]:
    kind: type[Front] = request.param
    with temporary_folder() as folder, kind(folder, socket_of(server)) as front:
        yield front


def echoes(client: Any, message: str = "hello") -> bool:
    client.send(message)
    return bool(client.recv() == message)


def ends_with(client: Any) -> int:
    """Receive the Close, and return its code."""
    opcode, payload = client.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE, (opcode, payload)
    client.shutdown()
    return int.from_bytes(payload[:2], "big")


def test_http_and_a_session_through_a_proxy(front: Front) -> None:
    assert front.get("/").text == "plain HTTP\n"
    client = front.connect("/echo")
    assert echoes(client, "héllo")
    client.close()
    assert front.get("/").text == "plain HTTP\n"


def test_a_large_message_through_a_proxy(front: Front) -> None:
    client = front.connect("/echo")
    assert echoes(client, "x" * 1024 * 1024)
    client.close()


@pytest.mark.parametrize("upstream", ["socket", "port"])
def test_the_application_sees_the_peer_and_not_the_proxy(
    front: Front, folder: Path, server: Server, upstream: str
) -> None:
    place = f"127.0.0.1:{server.port}" if upstream == "port" else socket_of(server)
    room = f"/rooms/{type(front).__name__}-{upstream}"
    with type(front)(folder, place) as proxy:
        forged = ("X-Forwarded-For: 192.0.2.66", "X-Forwarded-Proto: gopher")
        client = proxy.connect(room, source="127.0.0.5", headers=forged)
        told = json.loads(client.recv())
        client.close()
        assert told["address"][0] == "127.0.0.5"
        assert told["url"] == f"https://localhost:{proxy.port}{room}"
        server.wait_for_line(rf"GET {room} HTTP/1\.1. 101")


def test_pages_of_the_same_host_are_let_in_and_others_are_not(front: Front) -> None:
    client = front.connect("/echo", origin=f"https://localhost:{front.port}")
    assert echoes(client)
    client.close()
    for origin in ("https://evil.example", f"https://localhost:{front.port + 1}"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            front.connect("/echo", origin=origin)
        assert refused.value.status_code == 403
        assert origin.encode() in (refused.value.resp_body or b"")


def test_pings_keep_an_idle_session_open_and_nothing_else_does(
    front: Front, folder: Path, server: Server
) -> None:
    with type(front)(folder, socket_of(server), **front.idle) as proxy:
        lively = proxy.connect("/lively")
        silent = proxy.connect("/silent")
        with pytest.raises((websocket.WebSocketConnectionClosedException, ConnectionError)):
            silent.recv()
        silent.shutdown()
        # This session was idle for the same time, except for its pings.
        assert echoes(lively)
        lively.close()


def test_a_deploy_of_gunicorn_says_goodbye_through_a_proxy(front: Front, server: Server) -> None:
    started = sum("worker is ready" in line for line in server.lines)
    clients = [front.connect("/echo") for _ in range(20)]
    server.signal(signal.SIGHUP)
    for client in clients:
        assert ends_with(client) == 1001
    server.wait_for_line("worker is ready", count=started + 1)
    client = front.connect("/echo")
    assert echoes(client)
    client.close()


def test_a_reload_of_the_proxy_leaves_sessions_alone(
    front: Front, folder: Path, server: Server
) -> None:
    with type(front)(folder, socket_of(server)) as proxy:
        client = proxy.connect("/echo")
        before = proxy.workers()
        proxy.reload()
        proxy.wait_for_workers(lambda workers: bool(workers - before))
        another = proxy.connect("/echo")
        for one in (client, another):
            assert echoes(one)
            one.close()
        proxy.wait_for_workers(lambda workers: not workers & before)


def test_many_sessions_that_end_in_each_way_leave_nothing(front: Front, server: Server) -> None:
    for _ in range(5):
        clients = [front.connect("/echo") for _ in range(30)]
        for number, client in enumerate(clients):
            assert echoes(client, str(number))
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.close()
            elif number % 3 == 1:
                client.shutdown()
            else:
                faults.reset(client.sock)
    for _ in range(30):
        client = front.connect("/returns")
        assert client.recv() == "bye"
        assert ends_with(client) == 1000
    status_when(server, lambda status: status["threads"] == 0)
    if isinstance(front, Nginx):
        assert front.errors() == ""
