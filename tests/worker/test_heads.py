"""Peers that take their time to say what they want, under real gunicorn."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support import faults
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn, status_when

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def open_connection(stack: ExitStack, server: Server, data: bytes = b"") -> socket.socket:
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), PATIENCE))
    sock.sendall(data)
    return sock


def test_half_heads_and_silence_hold_up_nobody(stack: ExitStack) -> None:
    """Eight of each, on two threads."""
    with gunicorn() as server:
        slow = [open_connection(stack, server, data) for data in (REQUEST[:10], b"") * 8]
        # Behind a whole request, on a connection that is kept alive.
        pipelined = open_connection(stack, server, REQUEST + REQUEST[:-2])
        assert pipelined.recv(100).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            assert server.get("/").text == "plain HTTP\n"
        peer = connect(server.port, "/echo")
        peer.send("hello")
        assert peer.receive() == "hello"
        peer.close_socket()
        for number, sock in enumerate(slow):
            sock.sendall(REQUEST if number % 2 else REQUEST[10:])
            assert sock.recv(100).startswith(b"HTTP/1.1 200 "), "slow, but served"
            sock.close()
        pipelined.sendall(REQUEST[-2:])
        rest = pipelined.recv(10_000)
        while b"HTTP/1.1 200 " not in rest:
            rest += pipelined.recv(10_000)
        pipelined.close()
        status_when(server, lambda status: status["connections"] == 1)


def test_a_stalled_tls_handshake_holds_up_nobody(
    stack: ExitStack, certificate: tuple[Path, Path]
) -> None:
    key, file = certificate
    with gunicorn("tests.support.app:app", f"--certfile={file}", f"--keyfile={key}") as server:
        for data in (b"", b"\x16\x03\x01") * 4:
            open_connection(stack, server, data)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        half = context.wrap_socket(open_connection(stack, server))
        half.sendall(REQUEST[:10])
        for _ in range(3):
            head, sock, _ = exchange(server.port, REQUEST, tls=context)
            assert head.startswith("HTTP/1.1 200 ")
            sock.close()
        half.sendall(REQUEST[10:])
        assert half.recv(100).startswith(b"HTTP/1.1 200 ")
        half.close()


def test_a_stalled_tls_handshake_has_the_time_of_a_head(
    stack: ExitStack, certificate: tuple[Path, Path]
) -> None:
    key, file = certificate
    with gunicorn(
        "tests.support.app:short_heads",
        f"--certfile={file}",
        f"--keyfile={key}",
        "--do-handshake-on-connect",
    ) as server:
        assert open_connection(stack, server, b"\x16\x03\x01").recv(100) == b""


def test_a_head_that_does_not_come_in_time_ends_its_connection(stack: ExitStack) -> None:
    with gunicorn("tests.support.app:short_heads") as server:
        half = open_connection(stack, server, handshake("/echo")[:40])
        drip = open_connection(stack, server)
        drip.settimeout(0.01)
        # Each byte is in time, all of them are not.
        for value in handshake("/echo" + "x" * 1000):
            drip.sendall(bytes([value]))
            if _ended(drip):
                break
        else:
            raise AssertionError("all of it was read")
        assert half.recv(100) == b""
        status_when(server, lambda status: status["connections"] == 1)


def test_a_stopping_worker_does_not_wait_for_silent_peers(stack: ExitStack) -> None:
    """Browsers have connections open that they may never use."""
    with gunicorn() as server:
        for data in (b"", REQUEST[:10]):
            open_connection(stack, server, data)
        peer = connect(server.port, "/echo")
        server.signal(signal.SIGTERM)
        assert peer.answer_close() == (1001, "")
        peer.close_socket()
        assert server.wait() == 0  # long before the 20 seconds that a head has


def test_slow_heads_are_bounded(stack: ExitStack) -> None:
    """As sessions are: a share of the connections is kept for those who are quick."""
    with gunicorn("tests.support.app:app", "--worker-connections=10") as server:
        slow = [open_connection(stack, server, REQUEST[:10]) for _ in range(12)]
        assert server.get("/").text == "plain HTTP\n"
        for sock in slow:
            sock.settimeout(0.2)
        assert sum(_ended(sock) for sock in slow) >= 4, "eight may wait"
        for sock in slow:
            sock.close()
        status_when(server, lambda status: status["connections"] == 1)


def test_a_head_in_two_packets_is_served_where_there_is_room_for_no_more_sessions(
    stack: ExitStack,
) -> None:
    with gunicorn("tests.support.app:app", "--worker-connections=4") as server:
        sessions = [connect(server.port, "/echo") for _ in range(2)]
        for _ in range(3):
            sock = open_connection(stack, server, REQUEST[:10])
            server.get("/")  # so the rest comes later
            sock.sendall(REQUEST[10:])
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
            sock.close()
        for session in sessions:
            session.close_socket()


def test_https_is_served_where_there_is_room_for_no_more_sessions(
    stack: ExitStack, certificate: tuple[Path, Path]
) -> None:
    """Every head over TLS may be a slow one."""
    key, file = certificate
    arguments = [f"--certfile={file}", f"--keyfile={key}", "--worker-connections=4"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with gunicorn("tests.support.app:app", *arguments) as server:
        for _ in range(2):
            head, sock, _ = exchange(server.port, handshake("/echo"), tls=context)
            stack.callback(sock.close)
            assert head.startswith("HTTP/1.1 101 ")
        for _ in range(3):
            head, sock, _ = exchange(server.port, REQUEST, tls=context)
            assert head.startswith("HTTP/1.1 200 ")
            sock.close()


def _ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(100) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("garbage", [b"\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_garbage_is_answered_as_ever(stack: ExitStack, garbage: bytes) -> None:
    with gunicorn() as server, gunicorn(worker="gthread") as stock:
        answers = []
        for one in (server, stock):
            sock = open_connection(stack, one, garbage[:3])
            sock.sendall(garbage[3:])
            answers.append(sock.recv(1000).partition(b"\r\n")[0])
            sock.close()
        assert answers[0] == answers[1]


V2 = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.load
@pytest.mark.parametrize(
    ("data", "arguments"),
    [
        # A long head, in lines that each are short enough.
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X-Long: " + b"x" * 8000 + b"\r\n") * 12, []),
        (b"GET /" + b"x" * 100_000, ["--limit-request-line=0"]),
        (b"GET / HTTP/1.1\r\n", ["--limit-request-fields=8"]),
        (b"\r\n\r\n", ["--proxy-protocol=auto"]),
        (b"\r\n\r\n", ["--proxy-protocol=auto", "--proxy-allow-from=192.0.2.1"]),
        (V2, ["--proxy-protocol=v2"]),
        (V2 + b"\x21\x11\x00\x0c", ["--proxy-protocol=v2"]),
        (V2 + b"\x20\x00\x00\x00", ["--proxy-protocol=v2"]),
        (b"PROXY TCP4 192.0.2.1", ["--proxy-protocol=v1"]),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", ["--proxy-protocol=v1"]),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n", ["--proxy-protocol=v1"]),
        (b"PRI * HTTP/2.0\r\n\r\nS", ["--http-protocols=h2,h1", "--http2-cleartext=both"]),
    ],
)
@pytest.mark.parametrize("parser", ["python", "fast"])
def test_no_head_that_gunicorn_waits_for_holds_a_thread(
    stack: ExitStack, data: bytes, arguments: list[str], parser: str
) -> None:
    """On two threads, behind whatever setting, and with either parser."""
    with gunicorn("tests.support.app:app", f"--http-parser={parser}", *arguments) as server:
        for _ in range(4):
            open_connection(stack, server, data)
        started = time.monotonic()
        for _ in range(3):
            assert server.get("/").text == "plain HTTP\n"
        peer = connect(server.port, "/echo")
        peer.send("hello")
        assert peer.receive() == "hello"
        peer.close_socket()
        server.stop()
        assert time.monotonic() - started < 10, "long before graceful_timeout"
        assert "Traceback" not in server.output


@pytest.mark.parametrize("cut", [1, 3, 12, 20, 35, 50, 60])
def test_a_head_in_parts_is_parsed_as_a_whole_one(stack: ExitStack, cut: int) -> None:
    """What gunicorn has read of it is given to it again, the PROXY protocol's line too."""
    with gunicorn("tests.support.app:behind_a_proxy()", "--proxy-protocol=auto") as server:
        line = b"PROXY TCP4 192.0.2.7 192.0.2.2 4711 80\r\n"
        for behind in (b"", REQUEST, REQUEST[:20]):
            whole = line + REQUEST + behind
            sock = open_connection(stack, server, whole[:cut])
            server.get("/")  # so the rest comes later
            sock.sendall(whole[cut:])
            received = b""
            for _ in range(2 if behind == REQUEST else 1):
                while not received.endswith(b"\r\n\r\nplain HTTP\n"):
                    data = sock.recv(10_000)
                    assert data, received
                    received += data
            sock.close()


@pytest.mark.parametrize("garbage", [b"", b"\x16", b"\x16\x03\x01\x02\x00", REQUEST, b"\xff" * 100])
@pytest.mark.parametrize("end", [faults.reset, socket.socket.close])
def test_garbage_on_a_tls_port_is_not_logged_as_an_error(
    certificate: tuple[Path, Path], garbage: bytes, end: Callable[[socket.socket], None]
) -> None:
    key, file = certificate
    with gunicorn("tests.support.app:app", f"--certfile={file}", f"--keyfile={key}") as server:
        for _ in range(10):
            sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
            sock.sendall(garbage)
            end(sock)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        deadline = time.monotonic() + PATIENCE
        while True:
            _, sock, body = exchange(
                server.port, b"GET /status HTTP/1.0\r\nHost: x\r\n\r\n", tls=context
            )
            while data := sock.recv(10_000):
                body += data
            sock.close()
            if json.loads(body)["connections"] == 1:
                break
            assert time.monotonic() < deadline, body
        server.stop()
        assert not re.search("Traceback|WARNING|ERROR|CRITICAL", server.output)
