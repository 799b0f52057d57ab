"""The worker class when it stops, when it is full, and when the application fails."""

from __future__ import annotations

import logging
import re
import resource
import signal
import socket
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from wsproto.events import CloseConnection, TextMessage

from syncws.worker.capacity import Capacity, RareWarning, check_limits
from syncws.worker.connector import asks_for_websocket

from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import gunicorn, status_when


def test_sigterm_tells_50_sessions_and_ends_soon() -> None:
    with gunicorn() as server:
        peers = [connect(server.port, "/echo") for _ in range(49)]
        busy = connect(server.port, "/sends")
        assert busy.receive() == "tick"
        server.signal(signal.SIGTERM)
        started = time.monotonic()
        for peer in peers:
            assert peer.answer_close() == (1001, "")
        while isinstance(event := busy.next_event(), TextMessage):
            pass
        assert isinstance(event, CloseConnection)
        assert event.code == 1001
        busy.send_close(1001)
        assert server.wait() == 0
        # It takes some tenths of a second. What it waits for at most is 30 s, graceful_timeout.
        assert time.monotonic() - started < PATIENCE / 2
        for peer in [*peers, busy]:
            peer.expect_end()
            peer.close_socket()
        assert "Traceback" not in server.output
        assert sum('"GET /echo HTTP/1.1" 101' in line for line in server.lines) == 49


def test_sigterm_while_handlers_work_waits_for_them() -> None:
    with gunicorn() as server:
        peer = connect(server.port, "/sleeps/1.5")
        assert peer.receive() == "sleeping"
        server.signal(signal.SIGTERM)
        # Told at once, although the handler is busy.
        assert peer.answer_close(timeout=1.0) == (1001, "")
        peer.expect_end()
        peer.close_socket()
        assert server.wait() == 0
        assert "Traceback" not in server.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_the_quick_way_out_says_goodbye_too(number: signal.Signals) -> None:
    with gunicorn("tests.support.app:app", "--keep-alive=60") as server:
        # Connections that are merely kept alive hold nothing up.
        head, kept_alive, _ = exchange(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert "keep-alive" in head
        peers = [connect(server.port, "/echo") for _ in range(20)]
        busy = connect(server.port, "/sleeps/1.5")
        assert busy.receive() == "sleeping"
        server.signal(number)
        assert busy.answer_close(timeout=1.0) == (1001, "")
        for peer in peers:
            assert peer.answer_close() == (1001, "")
            peer.expect_end()
            peer.close_socket()
        server.wait_for_line(r"GET /sleeps/1.5.* 101")  # its handler got to the end
        assert server.wait() == 0
        assert "Traceback" not in server.output
        for sock in (kept_alive, busy.socket):
            sock.close()


def test_a_stopping_worker_does_not_wait_for_long_for_peers_to_close() -> None:
    with gunicorn("tests.support.app:app", "--graceful-timeout=1000") as server:
        request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            sock.sendall(request)
            while sock.recv(10_000):
                pass  # to the end of what the server has to say
            server.signal(signal.SIGTERM)
            assert server.wait() == 0


@pytest.mark.load
def test_long_sessions_do_not_worry_the_master() -> None:
    # gunicorn's main loop reports for duty once a second: a timeout of 1 s would
    # now and then be over by a millisecond, with its own workers as well.
    with gunicorn("tests.support.app:app", "--timeout=2") as server:
        peer = connect(server.port, "/echo")
        with pytest.raises(TimeoutError):
            peer.next_event(timeout=4)
        peer.send("still here")
        assert peer.receive() == "still here"
        peer.close_socket()
        server.stop()
        assert "WORKER TIMEOUT" not in server.output


def test_http_has_its_share_when_sessions_have_theirs() -> None:
    with gunicorn("tests.support.app:app", "--worker-connections=10") as server:
        peers = [connect(server.port, "/echo") for _ in range(8)]
        waits: set[int] = set()
        for _ in range(3):
            head, sock, _ = exchange(server.port, handshake("/echo?refused=1"))
            sock.close()
            assert head.startswith("HTTP/1.1 503 ")
            waits.add(int(head.partition("Retry-After: ")[2].split()[0]))
            assert "Connection: close" in head
            assert server.get("/").text == "plain HTTP\n"
        assert waits <= set(range(5, 16))
        server.wait_for_line(r'"GET /echo\?refused=1 HTTP/1\.1" 503 ', count=3)
        server.wait_for_line("8 sessions are open, and the other 2 of 10 worker_connections")
        assert sum("are answered with 503" in line for line in server.lines) == 1, "not each time"
        for peer in peers:
            peer.send("still here")
            assert peer.receive() == "still here"
        peers.pop().close_socket()
        status_when(server, lambda status: status["connections"] == 8)
        peers.append(connect(server.port, "/echo"))
        for peer in peers:
            peer.close_socket()


def test_no_thread_for_a_session() -> None:
    with gunicorn("tests.support.app:no_threads") as server:
        head, sock, _ = exchange(server.port, handshake("/echo"))
        sock.close()
        assert head.startswith("HTTP/1.1 503 ")
        server.wait_for_line("503: can't start new thread")
        assert server.get("/").text == "plain HTTP\n"
        status_when(server, lambda status: status["connections"] == 1)


def test_settings_without_room_for_sessions_are_reported() -> None:
    with gunicorn("tests.support.app:app", "--worker-connections=2") as server:
        server.wait_for_line("No WebSocket can be opened")


@pytest.mark.parametrize("path", ["/teardown", "/exits"])
def test_connection_count_is_right_though_the_application_fails_late(path: str) -> None:
    with gunicorn("tests.support.app:other") as server:
        for _ in range(3):
            peer = connect(server.port, path)
            assert peer.receive() == "bye"
            peer.close_socket()
        status_when(server, lambda status: status["connections"] == 1 and status["threads"] == 0)


def test_handler_raises() -> None:
    with gunicorn() as server:
        peer = connect(server.port, "/raises")
        assert peer.receive() == "now"
        assert peer.answer_close() == (1011, "")
        peer.expect_end()
        peer.close_socket()
        server.stop()
        assert server.output.count("Traceback") == 1
        assert server.output.count("LookupError: as it was told") == 1
        assert re.search(
            r"the handler of <Session \w{8} '/raises' with 127\.0\.0\.1:", server.output
        )


# Not enough room


def test_full_of_sessions_silent_peers_keep_no_request_waiting() -> None:
    """What is kept for HTTP is for requests: silent connections make room for them."""
    with (
        ExitStack() as stack,
        gunicorn("tests.support.app:app", "--worker-connections=10", "--keep-alive=60") as server,
    ):
        peers = [connect(server.port, "/echo") for _ in range(8)]
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        for data in (b"", request) * 10:
            address = ("127.0.0.1", server.port)
            sock = stack.enter_context(socket.create_connection(address, PATIENCE))
            sock.sendall(data)
            if data:
                assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
            started = time.monotonic()
            assert server.get("/").text == "plain HTTP\n"
            assert time.monotonic() - started < 5, "a head has 20 s, and keep-alive 60"
        for peer in peers:
            peer.send("still here")
            assert peer.receive() == "still here"
            peer.close_socket()


def test_without_descriptors_sessions_go_on_and_new_connections_wait() -> None:
    with ExitStack() as stack, gunicorn("tests.support.app:few_descriptors") as server:
        address = ("127.0.0.1", server.port)
        peers = [connect(server.port, "/echo") for _ in range(3)]
        waiting = [
            stack.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(40)
        ]
        for sock in waiting:
            sock.sendall(handshake("/echo"))
        server.wait_for_line("new connections wait, accept.. failed: .*Too many open files")
        for peer in peers:
            peer.send("still here")
            assert peer.receive() == "still here"
        # Each that goes leaves its place to another.
        for sock in waiting:
            assert sock.recv(12) == b"HTTP/1.1 101"
            sock.close()
        assert server.get("/").ok
        for peer in peers:
            peer.send("still here")
            assert peer.receive() == "still here"
            peer.close_socket()
        assert sum("new connections wait" in line for line in server.lines) == 1
        server.stop()
        assert "Traceback" not in server.output


def test_without_descriptors_silent_connections_make_room() -> None:
    with ExitStack() as stack, gunicorn("tests.support.app:few_descriptors") as server:
        address = ("127.0.0.1", server.port)
        assert server.get("/").ok  # the application has opened the files that it needs
        for _ in range(40):
            stack.enter_context(socket.create_connection(address, PATIENCE))
        started = time.monotonic()
        assert server.get("/").ok
        assert time.monotonic() - started < 5, "they may be silent for 20 s"


def test_no_thread_for_the_first_request_ends_its_connection_only() -> None:
    with gunicorn("tests.support.app:no_first_thread") as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            assert sock.recv(100) == b""
        server.wait_for_line("connections are closed: can't start new thread")
        assert server.get("/").text == "plain HTTP\n"
        status_when(server, lambda status: status["connections"] == 1)


@pytest.mark.parametrize(
    ("descriptors", "warning"),
    [
        (1024, "may open 1024 descriptors .* and 1000 worker_connections may need 2050"),
        (2050, None),
        (resource.RLIM_INFINITY, None),
    ],
)
def test_too_few_descriptors_are_reported_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    descriptors: int,
    warning: str | None,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    check_limits(SimpleNamespace(worker_connections=1000, threads=8), logging.getLogger("test"))
    assert len(caplog.messages) == bool(warning)
    assert warning is None or re.search(warning, caplog.text)


def test_the_reason_for_a_refusal_counts_sessions_and_slow_heads_apart() -> None:
    capacity = Capacity(worker_connections=5, threads=2)
    assert capacity.take_session() is None
    assert capacity.take_head()
    assert capacity.take_session() is None
    assert capacity.take_session() == (
        "2 sessions are open, 1 request heads are slow to arrive, and the other 2 of 5 "
        "worker_connections are kept for HTTP"
    )
    assert not capacity.take_head()
    capacity.give_head()
    assert capacity.take_session() is None
    capacity.give_session()
    assert capacity.take_head()


def test_a_warning_is_not_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    warn = RareWarning()
    for _ in range(3):
        warn("%s", "full")
    assert caplog.messages == ["full"]


@pytest.mark.parametrize(
    ("values", "asks"),
    [
        (["websocket"], True),
        (["WebSocket"], True),
        (["h2c, websocket"], True),
        (["h2c", "websocket"], True),
        (["notwebsocket"], False),
        (["websocket2"], False),
        (["web socket"], False),
        ([], False),
    ],
)
def test_only_the_token_websocket_asks_for_a_websocket(values: list[str], asks: bool) -> None:
    headers = [("HOST", "websocket"), *(("UPGRADE", value) for value in values)]
    assert asks_for_websocket(SimpleNamespace(headers=headers)) is asks
