"""Sessions that a program leaves open, on servers that use the socket again after the request."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncws.compat import simple_websocket
from syncws.upgrade import lent as lent_module

from ..support.background import wait_until
from ..support.clients import KEY, exchange, handshake
from ..support.pairs import Peer
from ..support.servers import Server, gunicorn, werkzeug

APP = "tests.support.compat_eager_app"


@pytest.fixture(
    scope="module", params=["worker", "serve", "gthread", "gthread TLS", "flask", "flask TLS"]
)
def server(
    request: pytest.FixtureRequest, certificate: tuple[Path, Path]
) -> Iterator[tuple[Server, bool]]:
    name, _, tls = request.param.partition(" ")
    key, cert = certificate
    if name == "serve":
        started = Server(["-m", "syncws", "serve", "--port=0", f"{APP}:app"], r"127\.0\.0\.1:(\d+)")
    elif name == "flask":
        files = [f"--cert={cert}", f"--key={key}"] if tls else []
        started = werkzeug(f"{APP}:app", *files)
    else:
        files = [f"--certfile={cert}", f"--keyfile={key}"] if tls else []
        worker = "gthread" if name == "gthread" else "syncws.worker.WebSocketWorker"
        started = gunicorn(f"{APP}:app", "--threads=8", *files, worker=worker)
    with started:
        yield started, bool(tls)


def context() -> ssl.SSLContext:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return trusting


def open_session(port: int, path: str, tls: bool = False, *extra: str) -> Peer:
    request = handshake(path, "localhost", *extra)
    head, sock, rest = exchange(port, request, tls=context() if tls else None)
    assert head.startswith("HTTP/1.1 101 "), head
    peer = Peer(sock)
    peer.protocol.receive_data(rest)
    peer._events.extend(peer.protocol.events())
    return peer


def end_of(peer: Peer) -> int:
    """The Close that arrives, after which nothing follows."""
    code, _ = peer.answer_close()
    try:
        peer.expect_end()
    except ssl.SSLEOFError:
        pass  # the server ends TCP, and not TLS
    finally:
        peer.close_socket()
    return code


def open_sessions(server: Server, tls: bool, query: str = "") -> int:
    request = f"GET /open{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    _, sock, rest = exchange(server.port, request.encode(), tls=context() if tls else None)
    with sock:
        return int(rest or sock.recv(100))


@pytest.mark.parametrize(
    ("path", "code"), [("/returns", 1000), ("/raises", 1011), ("/closes-elsewhere", 1000)]
)
def test_f1_a_session_that_is_left_open_ends_with_its_request(
    server: tuple[Server, bool], path: str, code: int
) -> None:
    running, tls = server
    lines = len(running.lines)
    for _ in range(3):
        peer = open_session(running.port, path, tls)
        assert peer.receive() == "open"
        assert end_of(peer) == code
    wait_until(lambda: open_sessions(running, tls) == 0)
    after = f"?after-{path[1:]}"
    open_sessions(running, tls, after)
    running.wait_for_line(re.escape(after))  # what came before has been read
    output = "\n".join(running.lines[lines:])
    assert output.count("Traceback") == (3 if path == "/raises" else 0), output


def test_a_request_has_one_session(server: tuple[Server, bool]) -> None:
    running, tls = server
    peer = open_session(running.port, "/twice", tls)
    assert peer.receive() == "this request has opened a WebSocket already"
    assert end_of(peer) == 1000


def test_the_route_of_metrics_is_flasks_rule(server: tuple[Server, bool]) -> None:
    running, tls = server
    peer = open_session(running.port, "/route/ann", tls)
    assert peer.receive() == "/route/<name>"
    assert end_of_ours(peer) == 1000


def end_of_ours(peer: Peer) -> int:
    peer.send_close(1000)
    code, _ = peer.expect_close()
    peer.close_socket()
    return code


def test_nobody_waits_for_the_peer_in_the_thread_that_accepts() -> None:
    """On gunicorn an application that says nothing leaves the end to the main thread."""
    with gunicorn(f"{APP}:plain", "--threads=2", worker="gthread") as server:
        peers = [open_session(server.port, "/") for _ in range(3)]
        for peer in peers:  # they do not answer the Close
            assert peer.receive() == "Rooms"
            assert peer.expect_close()[0] == 1000
            peer.expect_end()
        wait_until(lambda: server.get("/open").text == "0")
        for peer in peers:
            peer.close_socket()
        assert "Traceback" not in server.output


@pytest.mark.parametrize("worker", ["syncws.compat.Worker", "gthread"])
def test_a_session_that_fails_is_no_refusal(worker: str) -> None:
    """With refuse="close", what the framework says when a session has opened is not sent."""
    with gunicorn(f"{APP}:refuses", "--threads=4", worker=worker) as server:
        origin = "Origin: http://localhost"
        peer = open_session(server.port, "/forbidden", False, origin)
        assert peer.answer_close() == (3003, "not today")
        peer.close_socket()
        peer = open_session(server.port, "/fails", False, origin)
        assert peer.receive() == "open"
        assert end_of(peer) == 1011
        assert server.get("/opened").text == "2"


def test_the_socket_is_an_ordinary_one_again(
    lent_pair: tuple[socket.socket, list[int]],
) -> None:
    sock, ends = lent_pair
    with pytest.raises(BrokenPipeError):
        sock.sendall(b"HTTP/1.1 500 ...")
    assert type(sock) is socket.socket
    assert not lent_module._lent
    assert ends == [1011]
    sock.close()
    assert ends == [1011]


@pytest.fixture
def lent_pair() -> Iterator[tuple[socket.socket, list[int]]]:
    ends: list[int] = []
    ours, theirs = socket.socketpair()
    session: object = None
    lent_module.Lent(ours, session, lambda reason: ends.append(reason.code or 0))  # type: ignore[arg-type]  # it is not used in the request's thread
    yield ours, ends
    ours.close()
    theirs.close()


class OtherSocket(socket.socket):
    """As a server with sockets of its own has them."""


def test_a_server_with_sockets_of_its_own_is_told_so() -> None:
    ours, theirs = socket.socketpair()
    other = OtherSocket(fileno=ours.detach())
    with other, theirs, other.makefile("rb") as received:
        environ = {
            "REQUEST_METHOD": "GET",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "HTTP_UPGRADE": "websocket",
            "HTTP_CONNECTION": "Upgrade",
            "HTTP_SEC_WEBSOCKET_KEY": KEY,
            "HTTP_SEC_WEBSOCKET_VERSION": "13",
            "wsgi.multithread": True,
            "wsgi.input": received,
            "werkzeug.socket": other,
        }
        with pytest.raises(RuntimeError, match="OtherSocket"):
            simple_websocket.Server(environ)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)  # no 101
