"""Hundreds of sessions at once. The tests measure and print their cost."""

from __future__ import annotations

import signal
import time

import pytest

from ..support.clients import connect
from ..support.pairs import PATIENCE, Peer
from ..support.processes import (
    allow_descriptors,
    context_switches,
    cpu_seconds,
    resident_bytes,
)
from ..support.servers import Server, gunicorn

SESSIONS = 1000

pytestmark = [pytest.mark.load, pytest.mark.timeout(180)]


def worker_pid(server: Server) -> int:
    pid: int = server.get("/status").json()["pid"]
    return pid


def test_1000_idle_sessions_cost_nothing_but_their_pings() -> None:
    allow_descriptors(4 * SESSIONS)
    with gunicorn("tests.support.app:app", "--worker-connections=2000") as server:
        pid = worker_pid(server)
        before = resident_bytes(pid)
        peers: list[Peer] = [connect(server.port, "/echo") for _ in range(SESSIONS)]
        for peer in peers:
            peer.send("x" * 32)
        for peer in peers:
            assert peer.receive() == "x" * 32
        each = (resident_bytes(pid) - before) / SESSIONS

        # Give the ping threads time to notice that their handlers are back in receive(). The first
        # pings are sent after 20 s.
        time.sleep(2)
        cpu, switches = cpu_seconds(pid), context_switches(pid)
        time.sleep(5)  # what is measured is what happens by itself
        cpu, switches = cpu_seconds(pid) - cpu, context_switches(pid) - switches
        print(f"\nmemory of an idle session: {each / 1024:.1f} KiB")
        print(f"5 s of {SESSIONS} idle sessions: {cpu:.2f} s of CPU, {switches} wake-ups")
        assert switches < 100, "gunicorn's own loop wakes up about once a second"
        assert cpu < 0.1

        for number, peer in enumerate(peers):
            peer.send(str(number))
            assert peer.receive() == str(number)

        started = time.monotonic()
        server.signal(signal.SIGTERM)
        for peer in peers:
            assert peer.answer_close() == (1001, "")
        server.wait(3 * PATIENCE)
        print(f"{SESSIONS} sessions drained in {time.monotonic() - started:.2f} s")
        for peer in peers:
            peer.expect_end()
            peer.close_socket()
        assert "Traceback" not in server.output


def test_200_sessions_that_only_send_wake_up_for_nothing() -> None:
    """The ping threads of these sessions wait in poll(), and do not wake up at intervals."""
    with gunicorn("tests.support.app:app", "--worker-connections=2000") as server:
        pid = worker_pid(server)
        peers = [connect(server.port, "/sleeps/30.0") for _ in range(200)]
        for peer in peers:
            assert peer.receive() == "sleeping"
        time.sleep(2)  # as above
        switches = context_switches(pid)
        time.sleep(3)
        assert context_switches(pid) - switches < 60
        # They do wake up when there is a reason.
        for peer in peers:
            peer.ping(b"hello")
        for peer in peers:
            assert peer.expect_pong(timeout=2.0) == b"hello"
            peer.close_socket()
