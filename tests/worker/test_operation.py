"""What operators see, and what they do to a running worker."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from wsproto.utilities import LocalProtocolError

from ..support.background import Background
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn, status_when


class StatsdServer:
    """Takes what gunicorn sends to statsd."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.port = self.socket.getsockname()[1]
        self.lines: list[str] = []

    def until(self, pattern: str) -> re.Match[str]:
        while True:
            line = self.socket.recv(4096).decode()
            self.lines.append(line)
            found = re.fullmatch(pattern, line)
            if found:
                return found


@pytest.fixture
def statsd() -> Iterator[StatsdServer]:
    server = StatsdServer()
    yield server
    server.socket.close()


def test_figures_from_inside_the_worker() -> None:
    with gunicorn() as server:
        peers = [connect(server.port, "/echo") for _ in range(3)]
        for peer in peers:
            peer.send("x" * 1000)
            assert peer.receive() == "x" * 1000
        head, sock, _ = exchange(server.port, handshake("/echo").replace(b"13", b"12"))
        sock.close()
        assert " 426 " in head
        stats = server.get("/stats").json()
        assert (stats["open"], stats["opened"], stats["refused"]) == (3, 3, 1)
        assert (stats["messages_received"], stats["messages_sent"]) == (3, 3)
        assert stats["bytes_received"] == 3 * 1008
        assert stats["bytes_sent"] == 3 * 1004, "the 101 is HTTP's"
        for peer in peers[:2]:
            peer.send_close()
            peer.expect_close()
            peer.expect_end()
        peers[2].close_socket()
        status_when(server, lambda status: status["connections"] == 1)
        stats = server.get("/stats").json()
        assert (stats["open"], stats["closed"]) == (0, {"peer": 2, "eof": 1})
        for peer in peers:
            peer.close_socket()


def test_sessions_have_their_own_figures_in_statsd(statsd: StatsdServer) -> None:
    with gunicorn("tests.support.app:app", f"--statsd-host=127.0.0.1:{statsd.port}") as server:
        peer = connect(server.port, "/echo")
        peer.send("hello")
        assert peer.receive() == "hello"
        assert statsd.until(r"syncws\.sessions\.\d+:1\|g")
        statsd.until(r"syncws\.opened:1\|c\|@1\.0")
        peer.send_close()
        peer.close_socket()
        statsd.until(r"gunicorn\.request\.status\.101:1\|c\|@1\.0")
        statsd.until(r"syncws\.closed\.peer:1\|c\|@1\.0")
        assert not [line for line in statsd.lines if "duration" in line]
        assert "syncws.messages_sent:1|c|@1.0" in statsd.lines
        # Plain requests have theirs, as ever.
        assert server.get("/").ok
        statsd.until(r"gunicorn\.request\.duration:[\d.]+\|ms")
        server.wait_for_line('"GET /echo HTTP/1.1" 101')


def test_statsd_that_can_not_be_reached_is_reported_once(statsd: StatsdServer) -> None:
    statsd.socket.close()
    with gunicorn("tests.support.app:app", f"--statsd-host=127.0.0.1:{statsd.port}") as server:
        for _ in range(20):
            assert server.get("/").ok
        server.wait_for_line("statsd can not be reached, figures are lost: .*refused")
        server.stop()
        assert sum("statsd can not be reached" in line for line in server.lines) == 1
        # The master's own logger is as gunicorn made it.
        pid = server.wait_for_line(r"Booting worker with pid: (\d+)")[1]
        errors = [line for line in server.lines if "Error sending message to statsd" in line]
        assert not [line for line in errors if f"[{pid}]" in line]


def test_refusals_are_in_gunicorns_log() -> None:
    with gunicorn() as server:
        exchange(server.port, handshake("/echo", "localhost", "Origin: https://evil.net"))[
            1
        ].close()
        line = server.wait_for_line(r"^\[.*\] \[INFO\] refused '/echo' .* with 403: .*$")
        assert "evil.net" in line[0]


def test_an_applications_own_logging_is_left_alone() -> None:
    with gunicorn("tests.support.app:logging_its_own_way()") as server:
        exchange(server.port, handshake("/echo", "localhost", "Origin: https://evil.net"))[
            1
        ].close()
        server.wait_for_line("^mine: refused '/echo'")
        assert sum("refused" in line for line in server.lines) == 1


def test_an_application_that_configures_logging_gets_the_tracebacks_of_handlers() -> None:
    with gunicorn("tests.support.app:with_dict_config()") as server:
        peer = connect(server.port, "/raises")
        assert peer.receive() == "now"
        assert peer.answer_close() == (1011, "")
        peer.expect_end()
        peer.close_socket()
        server.wait_for_line("^mine: the handler of .* failed")
        server.wait_for_line("^LookupError: as it was told")


# Stopping and replacing workers


def reload_worker(server: Server) -> None:
    server.signal(signal.SIGHUP)


def kill_the_master(server: Server) -> None:
    server.signal(signal.SIGKILL)


@pytest.mark.parametrize("stop", [reload_worker, kill_the_master])
def test_every_session_is_told_whatever_its_state(stop: Callable[[Server], None]) -> None:
    with gunicorn() as server:
        receiving = connect(server.port, "/echo")
        stalled = connect(server.port, "/floods")  # does not read: its handler is in send()
        computing = connect(server.port, "/sleeps/1.0")
        assert computing.receive() == "sleeping"
        closing = connect(server.port, "/returns")  # has not answered the Close
        assert closing.receive() == "bye"
        assert closing.expect_close() == (1000, "")
        stop(server)
        assert receiving.answer_close() == (1001, "")
        assert computing.answer_close() == (1001, "")
        closing.send_close()
        for peer in (receiving, computing, closing):
            peer.expect_end()
            peer.close_socket()
        # After its deadline for a write the connection is gone, half a frame or not.
        server.wait_for_line("Worker exiting")
        stalled.socket.settimeout(PATIENCE)
        with contextlib.suppress(ConnectionError):
            while stalled.socket.recv(1_000_000):
                pass
        stalled.close_socket()
        if stop is reload_worker:
            server.wait_for_line("worker is ready", count=2)
            assert server.get("/").ok
            server.stop()
        assert "Traceback" not in server.output


def test_max_requests_leaves_no_gap_in_service() -> None:
    """The replacement comes when the sessions have been told, not when a minute is over."""
    with gunicorn("tests.support.app:app", "--max-requests=5", "--graceful-timeout=60") as server:
        peers = [connect(server.port, "/echo") for _ in range(3)]
        closed = [Background(peer.answer_close) for peer in peers]
        first = server.get("/status").json()["pid"]
        pid = first
        deadline = time.monotonic() + PATIENCE
        while pid == first:
            assert time.monotonic() < deadline
            with contextlib.suppress(requests.ConnectionError):
                # A worker ends the connections it has not accepted.
                pid = server.get("/status").json()["pid"]
        for peer, call in zip(peers, closed, strict=True):
            assert call.result() == (1001, "")
            peer.expect_end()
            peer.close_socket()
        assert "Traceback" not in server.output


def test_reload_on_change_says_goodbye(tmp_path: object) -> None:
    import pathlib

    folder = pathlib.Path(str(tmp_path))
    module = folder / "watched_app.py"
    module.write_text("from tests.support.app import app\n")
    with gunicorn(
        "watched_app:app", "--reload", "--reload-engine=poll", f"--pythonpath={folder}"
    ) as server:
        peer = connect(server.port, "/echo")
        server.wait_for_line("the reloader knows every file")
        module.write_text("from tests.support.app import app  # changed\n")
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        server.wait_for_line("worker is ready", count=2)


def test_a_second_signal_changes_nothing() -> None:
    with gunicorn() as server:
        peer = connect(server.port, "/sleeps/1.0")
        assert peer.receive() == "sleeping"
        for _ in range(3):
            server.signal(signal.SIGTERM)
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        assert server.wait() == 0
        assert "Traceback" not in server.output


def test_sessions_opening_while_the_worker_stops_are_told_too() -> None:
    """No session is forgotten between the 101 and the list of sessions."""
    with gunicorn() as server:
        ends: list[tuple[int, str]] = []
        opened = threading.Semaphore(0)

        def churn() -> None:
            while True:
                try:
                    peer = connect(server.port, "/echo")
                except (AssertionError, OSError):
                    return  # refused: the worker has gone
                opened.release()
                try:
                    peer.send("x")
                    assert peer.receive() == "x"
                    ends.append(peer.answer_close(timeout=0.05))
                except TimeoutError:
                    peer.send_close()
                    assert peer.expect_close() in ((1000, ""), (1001, ""))
                except (AssertionError, LocalProtocolError, OSError):
                    pass  # closed meanwhile, or cut by the end of the process
                finally:
                    peer.close_socket()

        threads = [threading.Thread(target=churn) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(50):  # some of them are always just opening
            assert opened.acquire(timeout=PATIENCE)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        for thread in threads:
            thread.join(PATIENCE)
        assert ends.count((1001, "")) >= 1
        assert "Traceback" not in server.output
