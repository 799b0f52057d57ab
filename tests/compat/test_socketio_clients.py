"""Flask-SocketIO with Socket.IO's clients: the one of npm, python-socketio's, and very many."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..support.background import wait_until
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn
from .programs import PROGRAMS, socketio_client

pytestmark = pytest.mark.load

NODE = Path(__file__).parent / "node"
PROGRAM = PROGRAMS["Flask-SocketIO"]


@pytest.fixture(scope="module", params=["syncws.compat.Worker", "gthread"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Both with threads enough for the few clients of npm."""
    with gunicorn("tests.support.socketio_app:app", "--threads=8", worker=request.param) as it:
        yield it


@pytest.fixture
def ours() -> Iterator[Server]:
    with gunicorn(
        "tests.support.socketio_app:app", "--threads=8", worker="syncws.compat.Worker"
    ) as it:
        yield it


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script in a folder where npm has installed the client."""
    folder = tmp_path_factory.mktemp("node")
    for file in NODE.iterdir():
        shutil.copy(file, folder)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        subprocess.run(npm, cwd=folder, check=True, capture_output=True, timeout=150)
    except (OSError, subprocess.SubprocessError) as exc:
        if os.environ.get("SYNCWS_TEST_EVERYTHING"):
            raise
        pytest.skip(f"npm can not install socket.io-client: {exc}")
    return folder / "client.js"


def sockets(server: Server) -> int:
    return int(server.get("/sockets").text)


@pytest.mark.timeout(200)  # npm downloads
@pytest.mark.parametrize("transports", ["websocket", "polling,websocket"])
def test_f2_the_client_of_npm(server: Server, script: Path, transports: str) -> None:
    with subprocess.Popen(
        ["node", script, server.url("", "http"), transports],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as client:
        assert client.stdout is not None
        output = []
        for line in client.stdout:
            output.append(line.strip())
            if line.startswith("waiting"):
                assert server.get("/broadcast").text == "sent"
        assert client.wait(PATIENCE) == 0
    assert output[0] == "transport websocket", output
    assert sorted(output[1:3]) == ["answer hello 0,255", "heard hello"]
    assert output[3:] == ["waiting for news", "news to all"]
    if "Using worker: gthread" not in server.output:  # which may keep the client in its table
        wait_until(lambda: sockets(server) == 0)
        assert "Traceback" not in server.output


def test_f2_a_broadcast_to_200_clients(ours: Server) -> None:
    peers = [PROGRAM.open(ours) for _ in range(200)]
    for peer in peers:
        PROGRAM.join(peer)
    assert ours.get("/broadcast").text == "sent"
    for peer in peers:
        assert peer.receive(3 * PATIENCE) == '42["news","to all"]'
    for number, peer in enumerate(peers):
        if number % 2:
            peer.send("41")  # a Socket.IO client says goodbye
        peer.send_close(1000)
    for peer in peers:
        assert peer.expect_close()[0] == 1000
        peer.close_socket()
    wait_until(lambda: sockets(ours) == 0)
    ours.wait_for_line('transport=websocket HTTP/1.1" 101', count=200)
    assert "Traceback" not in ours.output


def test_f2_40_clients_upgrade_at_once(ours: Server) -> None:
    together = threading.Barrier(40)

    def run(number: int) -> str:
        together.wait(PATIENCE)
        with socketio_client(ours, "polling", "websocket") as client:
            assert client.call("say", number, timeout=3 * PATIENCE) == number
            transport: str = client.transport
            return transport

    with ThreadPoolExecutor(40) as pool:
        assert list(pool.map(run, range(40))) == ["websocket"] * 40
    wait_until(lambda: sockets(ours) == 0)
    assert len(re.findall("Traceback", ours.output)) == 0, ours.output
