"""Metrics over all workers, read by prometheus_client's own parser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

import syncws

from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE, Peer
from ..support.redis_server import RedisServer
from ..support.servers import ROOT, Server, gunicorn

ROUTE = "/rooms/<room>"
Figures = dict[tuple[str, tuple[str, ...]], float]


def scrape(server: Server) -> Figures:
    """The value of each sample, by its name and its labels. The labels are sorted by name."""
    text = server.get("/metrics").text
    return {
        (sample.name, tuple(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape_when(server: Server, condition: Callable[[Figures], bool]) -> Figures:
    deadline = monotonic() + PATIENCE
    while not condition(figures := scrape(server)):
        assert monotonic() < deadline, figures
        sleep(0.02)
    return figures


def test_f12_metrics_are_of_all_workers_and_the_dead_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with gunicorn("tests.support.metrics_app:app", "--workers=2") as server:
        peers: dict[str, list[Peer]] = {}
        opened = 0
        deadline = monotonic() + PATIENCE
        while len(peers) < 2:
            assert monotonic() < deadline, "one worker takes all"
            peer = connect(server.port, f"/rooms/{opened}")
            peers.setdefault(str(peer.receive()), []).append(peer)
            opened += 1
            peer.send("hello")
            assert peer.receive() == "hello"
        head, sock, _ = exchange(server.port, handshake("/rooms/x").replace(b"13", b"12"))
        sock.close()
        assert " 426 " in head
        figures = scrape_when(
            server, lambda f: f.get(("syncws_messages_sent_total", ())) == 2 * opened
        )
        assert figures["syncws_sessions_open", (ROUTE,)] == opened
        assert figures["syncws_sessions_opened_total", (ROUTE,)] == opened
        assert figures["syncws_messages_received_total", ()] == opened
        assert figures["syncws_bytes_received_total", ()] == opened * 11
        assert figures["syncws_sessions_refused_total", ("426",)] == 1

        killed, left = peers
        os.kill(int(killed), signal.SIGKILL)
        for peer in peers[killed]:
            peer.expect_end()
        rest = len(peers[left])
        figures = scrape_when(server, lambda f: f["syncws_sessions_open", (ROUTE,)] == rest)
        assert figures["syncws_sessions_opened_total", (ROUTE,)] == opened, "counters never fall"
        assert figures["syncws_messages_received_total", ()] == opened

        for peer in peers[left]:
            peer.send_close()
            peer.expect_close()
        figures = scrape_when(
            server, lambda f: f.get(("syncws_session_seconds_count", (ROUTE,))) == rest
        )
        assert figures["syncws_sessions_open", (ROUTE,)] == 0
        assert figures["syncws_sessions_closed_total", ("peer", ROUTE)] == rest
        assert figures["syncws_session_seconds_bucket", ("60.0", ROUTE)] == rest
        for peer in [*peers[killed], *peers[left]]:
            peer.close_socket()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    made = RedisServer()
    yield made
    made.kill()


def test_f12_hubs_are_counted_over_all_workers(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", redis.url)
    members, gaps, undelivered, dropped = (
        ("syncws_hub_members", ("shop",)),
        ("syncws_hub_gaps_total", ("shop",)),
        ("syncws_hub_undelivered_total", ("shop",)),
        ("syncws_hub_dropped_total", ("drop_newest", "shop")),
    )
    with gunicorn("tests.support.metrics_app:app", "--workers=2") as server:
        peers: dict[str, list[Peer]] = {}
        deadline = monotonic() + PATIENCE
        while len(peers) < 2:
            assert monotonic() < deadline, "one worker takes all"
            peer = connect(server.port, "/rooms/x")
            peers.setdefault(str(peer.receive()), []).append(peer)
            peer.send("hello")
            assert peer.receive() == "hello", "it has joined two rooms"
        opened = sum(map(len, peers.values()))
        figures = scrape_when(server, lambda f: f.get(members) == 2 * opened)
        assert figures[gaps] == figures[undelivered] == 0

        for _ in range(5):  # one is being sent, one waits
            requests.post(server.url("/all?size=4000000", "http"), timeout=PATIENCE)
        scrape_when(server, lambda f: f.get(dropped, 0) >= opened)

        redis.kill()
        before = scrape_when(server, lambda f: f[gaps] == 2)[undelivered]
        requests.post(server.url("/all?size=1", "http"), timeout=PATIENCE)
        scrape_when(server, lambda f: f[undelivered] > before)

        killed, left = peers
        os.kill(int(killed), signal.SIGKILL)
        figures = scrape_when(server, lambda f: f[members] == 2 * len(peers[left]))
        assert figures[gaps] == 2, "counters never fall"
        for peer in [*peers[killed], *peers[left]]:
            peer.close_socket()
        scrape_when(server, lambda f: f[members] == 0)


def test_f12_what_a_hub_did_last_is_counted_when_the_process_ends(tmp_path: Path) -> None:
    """A process without sessions looks at its hubs only then, and for a scrape."""
    code = """
import sys, syncws, syncws.prometheus
hub = syncws.Hub("redis://127.0.0.1:1", prefix="shop")
hub.send("a", "x")
"""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environ)
    code = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
    read = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environ, capture_output=True, text=True
    )
    assert 'syncws_hub_undelivered_total{prefix="shop"} 1.0' in read.stdout


def test_a_file_that_a_worker_has_just_created_fails_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "counter_4711.db").touch()
    code = """
import syncws.prometheus, wsgiref.util
environ = {}
wsgiref.util.setup_testing_defaults(environ)
print(b"".join(syncws.prometheus.application(environ, lambda status, *_: print(status))).decode())
"""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert run.stdout.startswith("200")
    assert "syncws_messages_received_total 0.0" in run.stdout


def test_f12_metrics_of_one_process() -> None:
    """This runs in a separate process, because metrics can not be removed from a process."""
    code = """
import syncws, syncws.prometheus, wsgiref.util
from syncws.testing import WebSocketClient

@syncws.websocket()
def echo(session):
    for message in session:
        session.send(message)

with WebSocketClient(echo).connect("/a/path") as peer:
    peer.send("x")
    assert peer.receive() == "x"
    environ = {}
    wsgiref.util.setup_testing_defaults(environ)
    answer = syncws.prometheus.application(environ, lambda status, headers: print(status))
    print(b"".join(answer).decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert 'syncws_sessions_open{route="echo"} 1.0\n' in done.stdout
    assert "syncws_messages_received_total 1.0\n" in done.stdout
    assert "/a/path" not in done.stdout, "there may be any number of paths"


def test_f12_stats_can_be_given_to_json() -> None:
    stats = syncws.stats()
    written = json.loads(json.dumps(stats))
    assert written["open"] == stats.open
    assert written["closed"] == stats.closed
    assert list(written) == [
        "open",
        "opened",
        "closed",
        "refused",
        "messages_received",
        "messages_sent",
        "bytes_received",
        "bytes_sent",
    ]
