"""Raw sessions under real gunicorn."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from ..support import faults
from ..support.clients import connect
from ..support.pairs import frame
from ..support.servers import Server, gunicorn, status_when


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn() as running:
        yield running
        running.stop()
        assert "Traceback" not in running.output


def ended(server: Server, count: int) -> list[object]:
    """How the newest session ended, when ``count`` have and nothing of them is left."""
    status = status_when(
        server,
        lambda status: (
            len(status["ended"]) == count and status["threads"] == 0 and status["connections"] == 1
        ),
    )
    return list(status["ended"][-1])


def test_b4_every_kind_of_end_leaves_nothing_behind(server: Server) -> None:
    peer = connect(server.port, "/raw", behind=frame(9, b"early"))
    assert peer.expect_ping() == b"early"
    peer.send_bytes(frame(8, b"\x0f\xa0bye"))
    assert peer.expect_close() == (4000, "bye")
    peer.expect_end()
    peer.close_socket()
    assert ended(server, 1) == [4000, "bye", "peer"]
    server.wait_for_line("GET /raw.* 101")

    peer = connect(server.port, "/raw")
    faults.reset(peer.socket)
    assert ended(server, 2)[0] == 1006

    peer = connect(server.port, "/raw")
    peer.send_bytes(b"\x81\x05hello")
    assert peer.expect_close()[0] == 1002
    peer.expect_end()
    peer.close_socket()
    assert ended(server, 3)[2] == "protocol_error"


def test_sigterm_tells_raw_sessions_too_and_waits_for_none() -> None:
    with gunicorn() as server:
        peers = [connect(server.port, "/raw") for _ in range(10)]
        silent = connect(server.port, "/raw")
        server.signal(signal.SIGTERM)
        started = time.monotonic()
        for peer in peers:
            assert peer.answer_close() == (1001, "")
            peer.expect_end()
            peer.close_socket()
        # It never answers: close_timeout, which is a second here, is its deadline.
        assert silent.expect_close() == (1001, "")
        silent.expect_end()
        silent.close_socket()
        assert server.wait() == 0
        assert time.monotonic() - started < 10
        assert "Traceback" not in server.output
        assert sum('"GET /raw HTTP/1.1" 101' in line for line in server.lines) == 11
