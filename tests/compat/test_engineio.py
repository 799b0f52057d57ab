"""Flask-SocketIO on syncws's engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn
from .programs import socketio_client


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn(
        "tests.support.socketio_app:app", "--threads=8", worker="syncws.compat.Worker"
    ) as it:
        yield it


def wait_for_no_sockets(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.get("/sockets").text != "0":
        assert time.monotonic() < deadline, server.output
        threading.Event().wait(0.05)


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]])
def test_f2_flask_socketio_both_ways(server: Server, transports: list[str]) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(socketio_client(server, *transports)) for _ in range(4)]
        for number, client in enumerate(clients):
            assert client.call("say", number, timeout=PATIENCE) == number
            assert client.receive(PATIENCE) == ["heard", number]
            assert client.transport == "websocket"
        assert server.get("/broadcast").text == "sent"
        for client in clients:
            assert client.receive(PATIENCE) == ["news", "to all"]
    wait_for_no_sockets(server)
    assert "Traceback" not in server.output


def test_f2_more_clients_than_threads(server: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(socketio_client(server, "websocket")) for _ in range(12)]
        assert server.get("/").text == "plain HTTP\n"
        for client in clients:
            assert client.call("say", "x", timeout=PATIENCE) == "x"
    wait_for_no_sockets(server)


def test_f2_a_peer_that_breaks_the_protocol_ends_its_own_session(server: Server) -> None:
    peer = connect(server.port, "/socket.io/?EIO=4&transport=websocket")
    peer.receive()  # engineio's greeting
    peer.send("not a packet")
    while not (event := peer.next_event()) or type(event).__name__ != "CloseConnection":
        assert event is not None
    peer.close_socket()
    wait_for_no_sockets(server)
    assert "Traceback" not in server.output


def test_f2_origins_stay_engineios(server: Server) -> None:
    request = handshake(
        "/socket.io/?EIO=4&transport=websocket", "localhost", "Origin: https://other.example"
    )
    head, sock, _ = exchange(server.port, request)
    sock.close()
    assert head.startswith("HTTP/1.1 400 "), head
    assert "SOCK_SERVER_OPTIONS" not in server.output


def test_f2_a_program_may_import_engineio_when_it_runs() -> None:
    with gunicorn("tests.support.socketio_late_app:app", worker="syncws.compat.Worker") as server:
        assert server.get("/start").status_code == 204
        path = "/socket.io/?EIO=4&transport=websocket"
        peer = connect(server.port, path)
        peer.receive()  # engineio's greeting
        peer.send("4" + "x" * 4000)  # four times its largest message
        assert peer.answer_close()[0] == 1009
        peer.close_socket()
        head, sock, _ = exchange(
            server.port, handshake(path, "localhost", "Origin: https://other.example")
        )
        sock.close()
        assert head.startswith("HTTP/1.1 400 "), head
        assert "SOCK_SERVER_OPTIONS" not in server.output
