"""Stock servers: gunicorn's gthread and sync workers, Werkzeug's development server."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import simple_websocket
import websocket

from syncws.upgrade.connectors import connector_for

from ..support import faults
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE, frame
from ..support.servers import (
    Server,
    gunicorn,
    status_when,
    werkzeug,
)

SERVERS: dict[str, Callable[[], Server]] = {
    "gthread": lambda: gunicorn("tests.support.app:app", "--threads=8", worker="gthread"),
    "werkzeug": werkzeug,
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as running:
        yield running
        running.signal(signal.SIGTERM)
        running.wait()
        assert "Traceback" not in running.output
        assert "rror" not in running.output
        assert " 500 " not in running.output


def wait_until_nothing_is_left(server: Server) -> None:
    status_when(server, lambda now: now["threads"] == 0 and now["connections"] in (1, None))


def test_other_peoples_clients(server: Server) -> None:
    client = websocket.create_connection(server.url("/echo"), timeout=PATIENCE)
    client.send("x" * 100_000)
    assert client.recv() == "x" * 100_000
    client.close()
    other = simple_websocket.Client(server.url("/echo"))
    other.send(b"bytes")
    assert other.receive(timeout=PATIENCE) == b"bytes"
    other.close()
    other.thread.join(PATIENCE)
    wait_until_nothing_is_left(server)


def test_frame_in_the_same_packet_as_the_handshake(server: Server) -> None:
    peer = connect(server.port, "/echo", behind=frame(1, b"early") + frame(1, b"bird"))
    assert peer.receive() == "early"
    assert peer.receive() == "bird"
    peer.close_socket()
    wait_until_nothing_is_left(server)


def test_first_frame_a_moment_later(server: Server) -> None:
    peer = connect(server.port, "/echo")
    peer.send("later")
    assert peer.receive() == "later"
    peer.send_close()
    assert peer.expect_close()[0] == 1000
    peer.expect_end()
    peer.close_socket()
    wait_until_nothing_is_left(server)


def test_handler_returns(server: Server) -> None:
    peer = connect(server.port, "/returns")
    assert peer.receive() == "bye"
    assert peer.answer_close() == (1000, "")
    peer.expect_end()
    peer.close_socket()
    wait_until_nothing_is_left(server)


def test_bytes_behind_a_session_are_no_http(server: Server) -> None:
    lines = len(server.lines)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    peer = connect(server.port, "/echo", behind=frame(8, b"\x03\xe8") + smuggled)
    assert peer.expect_close() == (1000, "")
    peer.close_socket()
    peer = connect(server.port, "/returns")
    assert peer.receive() == "bye"
    assert peer.answer_close() == (1000, "")
    peer.send_bytes(smuggled)
    peer.close_socket()
    wait_until_nothing_is_left(server)
    assert "/smuggled" not in "\n".join(server.lines[lines:])


@pytest.mark.parametrize("fault", [faults.reset, faults.end_of_file])
def test_abnormal_ends(server: Server, fault: Any) -> None:
    peer = connect(server.port, "/echo")
    fault(peer.socket)
    peer.close_socket()
    wait_until_nothing_is_left(server)


def test_refusals(server: Server) -> None:
    for path, status in (("/echo?forbidden=1", "401"), ("/nowhere", "404")):
        head, sock, _ = exchange(server.port, handshake(path))
        sock.close()
        assert head.split()[1] == status
    assert server.get("/echo").status_code == 501


def test_one_log_line_with_101(server: Server) -> None:
    peer = connect(server.port, "/echo?marked=1")
    peer.send_close()
    peer.expect_close()
    peer.close_socket()
    server.wait_for_line(r"marked=1.* 101 ")
    wait_until_nothing_is_left(server)
    assert sum("marked=1" in line for line in server.lines) == 1


def test_sync_worker_says_what_to_use() -> None:
    with gunicorn("tests.support.app:app", "--threads=1", worker="sync") as server:
        head, sock, _ = exchange(server.port, handshake("/echo"))
        sock.close()
        assert "500" in head
        server.wait_for_line("RuntimeError: gunicorn's sync worker")
        server.wait_for_line(r"syncws\.worker\.WebSocketWorker")


def test_development_server_without_threads_says_so() -> None:
    with werkzeug("tests.support.app:app", "--without-threads") as server:
        head, sock, _ = exchange(server.port, handshake("/echo"))
        sock.close()
        assert "500" in head
        server.wait_for_line("RuntimeError: without threads")


@pytest.mark.parametrize(
    ("environ", "match"),
    [
        ({"SERVER_SOFTWARE": "waitress"}, "do not work on waitress: run the application on gun"),
        ({}, "an unknown server"),
        ({"gunicorn.socket": object(), "wsgi.multithread": True}, "sockets are builtins's"),
    ],
)
def test_other_servers_are_told_which_ones_work(environ: dict[str, Any], match: str) -> None:
    with pytest.raises(RuntimeError, match=match):
        connector_for(environ)
