"""The worker class, under real gunicorn, with other people's clients."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import simple_websocket
import websocket
from wsproto.events import CloseConnection, TextMessage

from ..support import faults
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE, frame
from ..support.servers import Server, gunicorn, status_when


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn() as running:
        yield running
        running.stop()
        # Whatever the peers of this module's tests did, nothing here was at fault.
        assert "Traceback" not in running.output


@pytest.fixture(autouse=True)
def nothing_is_left_in_the_server(server: Server) -> Iterator[None]:
    def at_rest(status: dict[str, Any]) -> bool:
        # This request itself is one connection.
        return bool(status["threads"] == 0 and status["connections"] == 1)

    before = status_when(server, at_rest)
    yield
    status_when(
        server,
        lambda after: at_rest(after) and after["descriptors"] <= before["descriptors"],
    )


# Other people's clients


def test_websocket_client(server: Server) -> None:
    client = websocket.create_connection(server.url("/echo"), timeout=PATIENCE)
    for message in ("héllo", "x" * 100_000, ""):
        client.send(message)
        assert client.recv() == message
    client.send_binary(b"\x00\xff")
    assert client.recv() == b"\x00\xff"
    client.close()


def test_simple_websocket(server: Server) -> None:
    client = simple_websocket.Client(server.url("/echo"))
    for message in ("héllo", b"\x00\xff", "x" * 100_000):
        client.send(message)
        assert client.receive(timeout=PATIENCE) == message
    client.close()
    client.thread.join(PATIENCE)


def test_raw_socket(server: Server) -> None:
    head, sock, _ = exchange(server.port, handshake("/echo"))
    with sock:
        lines = head.split("\r\n")
        assert lines[0] == "HTTP/1.1 101 Switching Protocols"
        names = [line.partition(":")[0].lower() for line in lines[1:]]
        assert len(set(names)) == len(names), "no header twice"
        assert "Upgrade: websocket" in lines
        assert "Connection: upgrade" in lines
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
        assert not {"content-length", "content-type", "transfer-encoding"} & set(names)
        sock.sendall(frame(1, b"hello"))
        assert sock.recv(100) == b"\x81\x05hello"


# The upgrade


def test_frame_in_the_same_packet_as_the_handshake(server: Server) -> None:
    peer = connect(server.port, "/echo", behind=frame(1, b"early") + frame(1, b"bird"))
    assert peer.receive() == "early"
    assert peer.receive() == "bird"
    peer.close_socket()


def test_bytes_behind_a_session_are_no_http(server: Server) -> None:
    """Neither those that came with the handshake nor those behind the Close."""
    lines = len(server.lines)
    peer = connect(
        server.port,
        "/echo",
        behind=frame(8, b"\x03\xe8") + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    assert peer.expect_close() == (1000, "")
    with contextlib.suppress(OSError):
        peer.send_bytes(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        peer.expect_end()
    peer.close_socket()
    server.wait_for_line("GET /echo.* 101", count=1)
    server.get("/")
    assert "/smuggled" not in "\n".join(server.lines[lines:])


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"Connection: Upgrade": "Connection: keep-alive"}, 400, "no 'Connection: Upgrade'"),
        ({"Sec-WebSocket-Version: 13": "Sec-WebSocket-Version: 8"}, 426, "only 13 is"),
        ({"Sec-WebSocket-Version: 13\r\n": ""}, 400, "no Sec-WebSocket-Version"),
        ({"Sec-WebSocket-Key: ": "X-Key: "}, 400, "no Sec-WebSocket-Key"),
        ({"dGhlIHNhbXBsZSBub25jZQ==": "c2hvcnQ="}, 400, "5 bytes instead of 16"),
        ({"dGhlIHNhbXBsZSBub25jZQ==": "%%%"}, 400, "not base64"),
        ({"HTTP/1.1": "HTTP/1.0"}, 400, "not over HTTP/1.0"),
        ({"Upgrade: websocket\r\n": ""}, 501, "no 'Upgrade: websocket' header"),
        ({"Host: localhost": "Host: localhost\r\nOrigin: https://evil.net"}, 403, "evil.net"),
        ({"/echo": "/echo?forbidden=1"}, 401, ""),
        ({"/echo": "/nowhere"}, 404, ""),
        ({"Host: localhost": "Host: localhost\r\nContent-Length: 3"}, 400, "has no body"),
        ({"Host: localhost": "Host: localhost\r\nTransfer-Encoding: chunked"}, 400, "has no body"),
    ],
)
def test_refusals(server: Server, changes: dict[str, str], status: int, reason: str) -> None:
    request = handshake("/echo").decode()
    for old, new in changes.items():
        assert old in request
        request = request.replace(old, new)
    head, sock, rest = exchange(server.port, request.encode())
    with sock:
        assert head.split()[1] == str(status), head
        sock.settimeout(PATIENCE)
        size = int(head.lower().split("content-length: ")[1].split()[0])
        while len(rest) < size:
            rest += sock.recv(4096)
        body = rest.decode()
        assert reason in body
        if reason:
            assert body.count("\n") == 1, "one line"


def test_refused_upgrade_ends_the_connection(server: Server) -> None:
    """What was sent behind it may be frames, and is no HTTP."""
    request = handshake("/echo?forbidden=1") + frame(1, b"GET / HTTP/1.1\r\n\r\n")
    head, sock, rest = exchange(server.port, request)
    with sock:
        assert "401" in head
        assert "Connection: close" in head
        sock.settimeout(PATIENCE)
        while data := sock.recv(4096):
            rest += data
        assert b"HTTP/1.1" not in rest


def test_subprotocol_and_headers(server: Server) -> None:
    client = websocket.create_connection(
        server.url("/chat"), subprotocols=["v1", "v2"], timeout=PATIENCE
    )
    assert client.getsubprotocol() == "v2"
    assert (client.getheaders() or {})["x-fixed"] == "yes"
    assert client.recv() == "v2"
    client.close()


# Threads


def test_http_answers_while_64_sessions_are_open_on_2_threads(server: Server) -> None:
    peers = [connect(server.port, "/echo") for _ in range(64)]
    for number, peer in enumerate(peers):
        peer.send(str(number))
    for _ in range(10):
        assert server.get("/").text == "plain HTTP\n"
    for number, peer in enumerate(peers):
        assert peer.receive() == str(number)
    # Those of the requests before this one may still be about to be closed.
    status_when(server, lambda status: status["connections"] == 65)
    for peer in peers:
        peer.close_socket()


def test_connection_count_is_right_after_every_kind_of_end(server: Server) -> None:
    """The fixture compares; here are the ends."""
    for path in ("/echo", "/returns", "/limited"):
        for end in (faults.reset, faults.end_of_file, lambda sock: sock.close()):
            peer = connect(server.port, path)
            end(peer.socket)
            peer.close_socket()
    peer = connect(server.port, "/echo")
    peer.send_close()
    peer.expect_close()
    peer.expect_end()
    peer.close_socket()
    exchange(server.port, handshake("/echo?forbidden=1"))[1].close()
    exchange(server.port, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")[1].close()


def test_accepting_goes_on_while_a_peer_keeps_its_tcp_open(server: Server) -> None:
    """After a handler has returned, a peer that does nothing holds up nobody."""
    peers = [connect(server.port, "/returns") for _ in range(5)]
    for peer in peers:
        assert peer.receive() == "bye"
        assert peer.expect_close()[0] == 1000
    started = time.monotonic()
    for _ in range(5):
        server.get("/")
    assert time.monotonic() - started < 5, "stock gunicorn takes 2 s for each of them, 10 s"
    for peer in peers:
        peer.send_close()
        peer.expect_end()
        peer.close_socket()


def test_peers_that_do_not_close_after_their_answer_hold_up_nobody() -> None:
    """gunicorn's main thread waits for each of them for 2 s, and is killed for it."""
    with gunicorn() as server:
        request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        peers = [socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(40)]
        for sock in peers:
            sock.sendall(request)
        assert server.get("/").text == "plain HTTP\n"
        # They do not get the connection's end before the answer's.
        for sock in peers:
            sock.sendall(b"more, which nobody reads")
            answer = b""
            while data := sock.recv(10_000):
                answer += data
            assert answer.endswith(b"\r\n\r\nplain HTTP\n")
        # Half of them do close, the other half is not waited for for long.
        for sock in peers[::2]:
            sock.close()
        status_when(server, lambda status: status["connections"] == 1)
        for sock in peers[1::2]:
            sock.close()


def test_ping_is_answered_while_the_handler_sleeps(server: Server) -> None:
    peer = connect(server.port, "/sleeps/1.5")
    assert peer.receive() == "sleeping"
    peer.ping(b"hello?")
    assert peer.expect_pong(timeout=1.0) == b"hello?"
    assert peer.receive() == "awake"
    assert peer.answer_close() == (1000, "")
    peer.expect_end()
    peer.close_socket()


# Ends


def ended(server: Server, cause: str) -> list[Any]:
    status = status_when(server, lambda status: status["threads"] == 0)
    reason: list[Any] = status["ended"][-1]
    assert reason[2] == cause
    return reason


def test_handler_returns(server: Server) -> None:
    peer = connect(server.port, "/returns")
    assert peer.receive() == "bye"
    assert peer.answer_close() == (1000, "")
    peer.expect_end()
    peer.close_socket()


def test_handler_that_only_sends_learns_of_the_close(server: Server) -> None:
    peer = connect(server.port, "/sends")
    assert peer.receive() == "tick"
    peer.send_close(1001, "enough")
    deadline = time.monotonic() + 1.0
    while isinstance(event := peer.next_event(deadline - time.monotonic()), TextMessage):
        pass
    assert isinstance(event, CloseConnection)
    assert (event.code, event.reason) == (1001, "enough")
    peer.expect_end()
    peer.close_socket()
    assert ended(server, "peer") == [1001, "enough", "peer"]


def test_peer_that_stops_answering_pings(server: Server) -> None:
    peer = connect(server.port, "/pings")
    assert peer.expect_ping()
    ended(server, "ping_timeout")
    peer.close_socket()


def test_peer_that_stops_reading(server: Server) -> None:
    peer = connect(server.port, "/floods")
    faults.stall(peer.socket)
    ended(server, "send_timeout")
    peer.close_socket()


def test_garbage_ends_its_own_session_only(server: Server) -> None:
    other = connect(server.port, "/limited")
    for bad, code in [
        (b"\xff\xff\xff\xff\xff", 1002),
        (frame(1, b"\xff"), 1007),
        (frame(1, b"x" * 101), 1009),
        (b"\x00" * 1000, 1002),
    ]:
        peer = connect(server.port, "/limited")
        peer.send_bytes(bad)
        assert peer.expect_close()[0] == code
        peer.close_socket()
        other.send("fine")
        assert other.receive() == "fine"
    other.close_socket()


def test_access_log_has_one_line_a_session(server: Server) -> None:
    lines = len(server.lines)
    peer = connect(server.port, "/echo?logged=1")
    peer.send("x" * 100)
    assert peer.receive() == "x" * 100
    peer.send_close()
    peer.expect_close()
    peer.expect_end()
    peer.close_socket()
    # What was sent in the session: a frame of 102 bytes, and a Close of 4.
    server.wait_for_line(r'"GET /echo\?logged=1 HTTP/1\.1" 101 106 ')
    assert sum("logged=1" in line for line in server.lines[lines:]) == 1


def test_normal_ends_log_no_exception(server: Server) -> None:
    lines = len(server.lines)
    for end in (faults.reset, faults.end_of_file):
        peer = connect(server.port, "/echo")
        end(peer.socket)
        peer.close_socket()
    client = websocket.create_connection(server.url("/echo"), timeout=PATIENCE)
    client.close()
    status_when(server, lambda status: status["threads"] == 0)
    logged = "\n".join(server.lines[lines:])
    assert "Traceback" not in logged
    assert "rror" not in logged.replace("/error", "")


def test_slow_handshake_does_not_hold_the_pool(server: Server) -> None:
    socks = []
    for _ in range(4):
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.sendall(handshake("/echo")[:30])
        socks.append(sock)
    for sock in socks:
        sock.close()
    assert server.get("/").ok
