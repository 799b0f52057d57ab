"""``serve()``: how it stops, and what bounds it."""

from __future__ import annotations

import errno
import functools
import logging
import os
import resource
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import syncws
from syncws.server import listening
from syncws.server import server as server_module

from ..support.background import Background
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.serving import (
    both,
    echo,
    end,
    page,
)

# Stopping


def test_shutdown_tells_every_session_at_once() -> None:
    with syncws.serve(echo, "127.0.0.1", 0) as server:
        peers = [connect(server.port, "/") for _ in range(5)]
        stopping = Background(server.shutdown)
        for peer in peers:
            assert peer.expect_close() == (1001, "")
        for peer in peers:
            peer.send_close(1001)
            peer.expect_end()
            peer.close_socket()
        stopping.result()
        server.shutdown()  # idempotent
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_shutdown_before_anything() -> None:
    server = syncws.serve(echo, "127.0.0.1", 0)
    server.shutdown()
    server.serve_forever()  # returns


@pytest.mark.parametrize("timeout", [0, -1, 1e12, float("inf")])
def test_every_time_is_a_time_to_stop_in(timeout: float) -> None:
    server = syncws.serve(echo, "127.0.0.1", 0)
    for wrong, error in ((float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="timeout is a number of seconds"):
            server.shutdown(wrong)  # type: ignore[arg-type]  # that is the test
    end(connect(server.port, "/"))  # it has not stopped
    server.shutdown(timeout)


def test_serve_forever_returns_when_it_is_shut_down() -> None:
    server = syncws.serve(echo, "127.0.0.1", 0)
    forever = Background(server.serve_forever)
    peer = connect(server.port, "/")
    stopping = Background(server.shutdown)
    assert peer.answer_close() == (1001, "")
    peer.close_socket()
    stopping.result()
    forever.result()


def test_a_handler_may_shut_the_server_down() -> None:
    def handler(session: syncws.Session) -> None:
        server.shutdown()
        assert session.wait_closed(PATIENCE).code == 1001

    server = syncws.serve(handler, "127.0.0.1", 0)
    peer = connect(server.port, "/")
    assert peer.answer_close() == (1001, "")
    peer.expect_end()
    peer.close_socket()
    server.serve_forever()


def test_shutdown_lets_a_request_finish_and_ends_idle_connections() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(environ: Any, start_response: Any) -> Any:
        asked.set()
        go_on.wait(PATIENCE)
        return page(environ, start_response)

    server = syncws.serve(slow, "127.0.0.1", 0)
    idle = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    idle.sendall(b"GET / HT")  # not a request yet
    answer = Background(requests.get, f"http://127.0.0.1:{server.port}/")
    assert asked.wait(PATIENCE)
    stopping = Background(server.shutdown)
    assert idle.recv(100) == b""
    idle.close()
    go_on.set()
    assert answer.result().text == "page\n"
    stopping.result()


def test_a_request_may_shut_the_server_down() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        server.shutdown()
        return page(environ, start_response)

    server = syncws.serve(application, "127.0.0.1", 0)
    head, sock, rest = exchange(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert "Connection: close" in head
    assert rest + sock.recv(100) == b"page\n"
    sock.close()
    server.serve_forever()


def test_handlers_get_a_bounded_time(caplog: pytest.LogCaptureFixture) -> None:
    sending, let_go = threading.Event(), threading.Event()
    ends: list[BaseException] = []

    def handler(session: syncws.Session) -> None:
        if session.environ["PATH_INFO"] == "/elsewhere":
            let_go.wait(PATIENCE)
            return
        try:
            sending.set()
            while True:
                session.send(b"x" * 1_000_000)
        except syncws.ConnectionClosed as exc:
            ends.append(exc)
            raise

    server = syncws.serve(handler, "127.0.0.1", 0, close_timeout=60)
    peers = [connect(server.port, "/elsewhere"), connect(server.port, "/floods")]
    assert sending.wait(PATIENCE)
    server.shutdown(0.1)
    server.serve_forever()  # returns, and does not wait or complain again
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warning.endswith("has not ended in time, and is left to itself")
    assert len(ends) == 1
    let_go.set()
    for peer in peers:
        peer.close_socket()


# Bounds


def test_connections_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    with syncws.serve(both, "127.0.0.1", 0, max_connections=2) as server:
        peers = [connect(server.port, "/echo") for _ in range(2)]
        for path in ("/", "/echo"):
            head, sock, rest = exchange(server.port, handshake(path))
            assert head.startswith("HTTP/1.1 503 ")
            assert 5 <= int(head.partition("Retry-After: ")[2].split()[0]) <= 15
            while data := sock.recv(4096):
                rest += data
            assert rest == b"The server can not take more sessions now.\n"
            sock.close()
        assert caplog.text.count("connections are refused: 2 are open") == 1, "not each time"
        end(peers.pop())
        # Its thread ends a moment after its connection.
        while True:
            head, sock, _ = exchange(server.port, handshake("/echo"))
            sock.close()
            if head.startswith("HTTP/1.1 101 "):
                break
        peers[0].send("still here")
        assert peers[0].receive() == "still here"
        end(peers.pop())


def test_refusals_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REFUSED_AT_ONCE", 0)
    with syncws.serve(echo, "127.0.0.1", 0, max_connections=1) as server:
        peer = connect(server.port, "/")
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
            assert sock.recv(100) == b""
        end(peer)


def test_no_thread_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def start(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with syncws.serve(echo, "127.0.0.1", 0) as server:
        with monkeypatch.context() as patch:
            patch.setattr("syncws.server.connection.ServerConnection.start", start)
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
                assert sock.recv(100) == b""
        assert "connections are refused: can't start new thread" in caplog.text
        end(connect(server.port, "/"))


class FailingListener(socket.socket):
    """A listener, on a system that has no descriptor left for a while."""

    failures: Iterator[OSError]

    def accept(self) -> tuple[socket.socket, Any]:
        for failure in self.failures:
            raise failure
        return super().accept()


def test_accepting_goes_on_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(make: Callable[[str, int], socket.socket], host: str, port: int) -> socket.socket:
        listener = FailingListener(fileno=make(host, port).detach())
        listener.setblocking(False)
        listener.failures = iter(
            [ConnectionAbortedError(), OSError(errno.EMFILE, "Too many open files")]
        )
        return listener

    monkeypatch.setattr(server_module, "ACCEPT_AGAIN_AFTER", 0.01)
    monkeypatch.setattr(server_module, "listen", functools.partial(failing, listening.listen))
    with syncws.serve(echo, "127.0.0.1", 0) as server:
        end(connect(server.port, "/"))
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "no connection can be accepted: [Errno 24] Too many open files" in record.getMessage()


def test_without_descriptors_the_listener_waits(caplog: pytest.LogCaptureFixture) -> None:
    """The system itself refuses ``accept()``; when there are descriptors again, it goes on."""
    refused = threading.Event()

    class Noted(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            refused.set()
            return True

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        caplog.filtering(Noted()),
        syncws.serve(echo, "127.0.0.1", 0) as server,
        socket.socket() as waiting,
    ):
        waiting.settimeout(PATIENCE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            waiting.connect(("127.0.0.1", server.port))
            assert refused.wait(PATIENCE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.sendall(handshake("/"))
        assert waiting.recv(100).startswith(b"HTTP/1.1 101 ")
    assert "no connection can be accepted: [Errno 24] Too many open files" in caplog.text


@pytest.mark.parametrize("missing", ["thread", "descriptor"])
def test_a_server_that_can_not_start_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    """Sockets that are left open fail the check after each test."""

    def refuse(*args: Any) -> Any:
        raise RuntimeError("can't start new thread")

    if missing == "thread":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    else:
        monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        syncws.serve(echo, f"unix:{tmp_path / 'socket'}")
    assert not (tmp_path / "socket").exists()
    with pytest.raises(RuntimeError, match="can't start"):
        syncws.serve(echo, "127.0.0.1", 0)
