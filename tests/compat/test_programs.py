"""Unchanged programs on ``syncws.compat.Worker``, beside stock gunicorn's ``gthread``."""

from __future__ import annotations

import contextlib
import re
import signal
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from wsproto.events import CloseConnection, TextMessage

from ..support.background import wait_until
from ..support.clients import exchange, handshake
from ..support.pairs import Peer
from ..support.servers import Server, gunicorn, status_when
from .programs import APP, PROGRAMS, Program

# Five programs on two servers take their time.
pytestmark = pytest.mark.load

WORKER = "syncws.compat.Worker"


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with gunicorn(APP, "--threads=2", worker=WORKER) as server:
        yield server


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    return PROGRAMS[request.param]


def close(peer: Peer, code: int = 1000) -> None:
    """The peer closes, and is answered."""
    peer.send_close(code)
    assert closed_with(peer) == code
    peer.expect_end()
    peer.close_socket()


def closed_with(peer: Peer) -> int | None:
    """The code of the Close that comes, after other frames perhaps; None if none comes."""
    with contextlib.suppress(ConnectionError):  # of stock gunicorn
        while (event := peer.next_event()) is not None:
            if isinstance(event, CloseConnection):
                return int(event.code)
    return None


def nobody_is_left(server: Server) -> None:
    """The sessions are over, and so are the clients in the tables of the programs."""
    status_when(server, lambda status: not status["open"] and not status["clients"])


def test_f1_sessions_beyond_the_threads_beside_gthread(ours: Server, program: Program) -> None:
    peers = [program.open(ours) for _ in range(6)]
    for peer in peers:
        program.join(peer)
        program.speak(peer)
    assert ours.get("/").text == "plain HTTP\n"
    for peer in peers:
        close(peer)
    nobody_is_left(ours)

    with gunicorn(APP, "--threads=2", worker="gthread") as stock, ExitStack() as stack:
        for _ in range(2):
            stack.callback(program.open(stock).close_socket)
        with pytest.raises(requests.ReadTimeout):
            stock.get("/", timeout=0.5)


def test_f1_the_first_frame_in_the_handshakes_packet_arrives(
    ours: Server, program: Program
) -> None:
    peer = program.open(ours, early=program.joins or program.message or "ignored")
    if program.message:
        assert str(peer.receive()).startswith("40{" if program.joins else program.answer)
    peer.ping(b"there?")
    assert peer.expect_pong() == b"there?"
    close(peer)


def test_f1_all_of_600_closes_are_answered(ours: Server, program: Program) -> None:
    path = program.path + ("&" if "?" in program.path else "?") + "one-of-600"
    line = r'one-of-600 HTTP/1\.1" 101 '
    lines = len(ours.lines)
    for number in range(600):
        peer = program.open(ours, path=path)
        if number % 3:
            program.join(peer)
            program.speak(peer)
        close(peer, 1000 + number % 2)
    nobody_is_left(ours)
    already = len(re.findall(line, "\n".join(ours.lines[:lines])))
    ours.wait_for_line(line, count=already + 600)
    assert ours.get("/?after-them").ok
    ours.wait_for_line("after-them")
    output = "\n".join(ours.lines[lines:])
    assert len(re.findall(line, output)) == 600
    assert "Traceback" not in output


def test_f1_over_tls_too(program: Program, certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    files = (f"--keyfile={key}", f"--certfile={cert}")
    with gunicorn(APP, "--threads=2", *files, worker=WORKER) as server:
        peers = [program.open(server, tls=context) for _ in range(3)]
        for peer in peers:
            program.join(peer)
            program.speak(peer)
            peer.send_close(1000)
            assert closed_with(peer) == 1000
            peer.close_socket()
        early = program.open(server, tls=context, early=program.message or "ignored")
        early.send_close(1000)
        assert closed_with(early) == 1000
        early.close_socket()
        server.stop()
        assert "Traceback" not in server.output


def test_f1_worker_connections_are_right_after_50_sessions(program: Program) -> None:
    limits = ("--threads=2", "--worker-connections=6")
    for worker in (WORKER, "gthread"):
        with gunicorn(APP, *limits, worker=worker) as server:
            for _ in range(50):
                peer = program.open(server)
                peer.send_close(1000)
                closed_with(peer)
                peer.close_socket()
                if worker == WORKER:  # a session has left room for the next one
                    status_when(server, lambda status: status["connections"] == 1)
            connections = settled(server)
            if worker == "gthread":
                assert connections < 0, "it counts down twice for each session"
                continue
            assert connections == 1, "that of the request itself"
            peers = [program.open(server) for _ in range(4)]
            head, sock, _ = exchange(server.port, handshake(program.path))
            sock.close()
            assert head.startswith("HTTP/1.1 503 "), head
            for peer in peers:
                close(peer)


def settled(server: Server) -> int:
    """The worker's count of connections, when the sessions are over."""
    counts: list[int] = []

    def same_thrice() -> bool:
        counts.append(server.get("/status").json()["connections"])
        return len(counts) > 2 and len(set(counts[-3:])) == 1

    wait_until(same_thrice)
    return counts[-1]


def test_f1_a_stop_says_1001_to_each_program() -> None:
    def stop(worker: str, seconds: int) -> list[int | None]:
        limit = f"--graceful-timeout={seconds}"
        with gunicorn(APP, "--threads=8", limit, worker=worker) as server:
            peers = [program.open(server) for program in PROGRAMS.values()]
            for program, peer in zip(PROGRAMS.values(), peers, strict=True):
                program.join(peer)
                program.speak(peer)
            server.signal(signal.SIGTERM)
            codes = [closed_with(peer) for peer in peers]
            for peer in peers:
                with contextlib.suppress(ConnectionError):
                    peer.send_close(1001)
                peer.close_socket()
            assert server.wait() == 0
            assert worker == "gthread" or "Traceback" not in server.output
            return codes

    assert stop(WORKER, 60) == [1001] * len(PROGRAMS)  # and nobody waits for a minute
    assert stop("gthread", 1) == [None] * len(PROGRAMS)


@pytest.mark.timeout(150)
def test_f1_peers_that_stop_reading_or_fall_silent_are_dropped(ours: Server) -> None:
    """With the default times: 20 s for a write, 40 s for a silent peer."""
    silent = [program.open(ours) for program in PROGRAMS.values()]
    deaf = []
    for program in PROGRAMS.values():
        if program.flood:
            peer = program.open(ours, path=program.flood)
            program.join(peer)
            if program.joins:
                peer.send('42["flood"]')
            deaf.append(peer)
    before = ours.get("/status").json()["closed"]

    def ended(cause: str, status: dict[str, Any]) -> int:
        return int(status["closed"].get(cause, 0) - before.get(cause, 0))

    for peer in silent:
        peer.socket.settimeout(60)
        while (event := peer.next_event(60)) is not None:
            # engineio has pings of its own
            assert not isinstance(event, TextMessage) or event.data == "2", event
        peer.close_socket()
    status = status_when(ours, lambda status: not status["open"] and not status["clients"])
    assert ended("send_timeout", status) == len(deaf)
    assert ended("ping_timeout", status) == len(silent)
    for peer in deaf:
        peer.close_socket()
    assert "Traceback" not in ours.output
    assert ours.get("/").text == "plain HTTP\n"
