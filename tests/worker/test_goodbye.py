"""Telling the sessions that their worker stops, all at once or spread over some seconds."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from syncws.worker import goodbye as goodbye_module
from syncws.worker.goodbye import Goodbye, goodbye_seconds

from ..support.clients import connect
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn, status_when


class Session:
    def __init__(self, told: list[int], number: int) -> None:
        self._told = told
        self._number = number

    def _start_closing(self, reason: object) -> None:
        self._told.append(self._number)


class Registry:
    """Of ten sessions, and two that open while the goodbye goes on."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.drains = 0

    def oldest_first(self) -> list[Session]:
        return [Session(self.told, number) for number in range(10)]

    def drain(self) -> None:
        self.drains += 1


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(goodbye_module, "REGISTRY", made)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its only element is the time."""
    now = [1000.0]
    monkeypatch.setattr(goodbye_module, "monotonic", lambda: now[0])
    return now


def test_all_at_once_by_default(registry: Registry) -> None:
    goodbye = Goodbye(0.0)
    assert goodbye.wait_at_most(None) is None
    goodbye.begin(at_once=False)
    assert registry.drains == 1
    assert goodbye.wait_at_most(5.0) == 5.0


def test_oldest_first_and_all_in_time(registry: Registry, clock: list[float]) -> None:
    goodbye = Goodbye(5.0)
    goodbye.begin(at_once=False)
    assert registry.told == []
    assert goodbye.wait_at_most(1.0) == 0.1
    clock[0] += 1.0
    goodbye.go_on()
    goodbye.go_on()
    assert registry.told == [0, 1]
    clock[0] += 3.0
    goodbye.go_on()
    assert registry.told == [0, 1, 2, 3, 4, 5, 6, 7]
    assert registry.drains == 0
    clock[0] += 1.0
    goodbye.go_on()
    assert registry.drains == 1, "the last ones, and those that opened meanwhile"
    assert goodbye.wait_at_most(None) is None


def test_a_second_signal_ends_the_waiting(registry: Registry, clock: list[float]) -> None:
    goodbye = Goodbye(5.0)
    goodbye.begin(at_once=False)
    goodbye.hurry()
    goodbye.go_on()
    assert registry.drains == 1
    quick = Goodbye(5.0)
    quick.begin(at_once=True)
    assert registry.drains == 2


@pytest.mark.parametrize("text", ["-1", "30", "inf", "nan", "soon"])
def test_seconds_that_make_no_sense(text: str) -> None:
    cfg: Any = SimpleNamespace(env={"SYNCWS_GOODBYE_SECONDS": text}, graceful_timeout=30)
    with pytest.raises(RuntimeError, match=f"SYNCWS_GOODBYE_SECONDS is {text!r}: write a number"):
        goodbye_seconds(cfg)


def test_seconds_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg: Any = SimpleNamespace(env={}, graceful_timeout=30)
    assert goodbye_seconds(cfg) == 0
    monkeypatch.setenv("SYNCWS_GOODBYE_SECONDS", "2.5")
    assert goodbye_seconds(cfg) == 2.5
    cfg.env["SYNCWS_GOODBYE_SECONDS"] = "7"
    assert goodbye_seconds(cfg) == 7


def test_gunicorn_says_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match="SYNCWS_GOODBYE_SECONDS is 'soon'"):
        gunicorn("tests.support.app:app", "--env=SYNCWS_GOODBYE_SECONDS=soon")


def goodbyes(server: Server, number: int) -> list[float]:
    """The seconds from SIGTERM to each session's Close, in the order of their opening."""
    peers = [connect(server.port, "/echo") for _ in range(number)]
    server.signal(signal.SIGTERM)
    started = time.monotonic()
    times = []
    for peer in peers:
        assert peer.answer_close() == (1001, "")
        times.append(time.monotonic() - started)
        peer.expect_end()
        peer.close_socket()
    assert server.wait() == 0
    assert "Traceback" not in server.output
    return times


def test_sessions_are_told_over_the_seconds_that_are_set() -> None:
    with gunicorn("tests.support.app:app", "--env=SYNCWS_GOODBYE_SECONDS=1.5") as server:
        times = goodbyes(server, 15)
        # Each is told when its turn comes: never two thirds of them within half of the time.
        assert times[4] < 1.0
        assert times[10] > 0.75
        assert times[14] > 1.2


def test_sigint_does_not_wait() -> None:
    with gunicorn("tests.support.app:app", "--env=SYNCWS_GOODBYE_SECONDS=25") as server:
        peers = [connect(server.port, "/echo") for _ in range(5)]
        server.signal(signal.SIGINT)
        for peer in peers:
            assert peer.answer_close() == (1001, "")
            peer.expect_end()
            peer.close_socket()
        assert server.wait() == 0


def test_connections_that_are_kept_alive_hold_up_a_stop_no_longer_than_that() -> None:
    with gunicorn("tests.support.app:app", "--keep-alive=3") as server, requests.Session() as http:
        assert http.get(server.url("/", "http"), timeout=PATIENCE).ok
        status_when(server, lambda status: status["kept_alive"] == 1)
        server.signal(signal.SIGTERM)
        server.wait(2 * PATIENCE)  # graceful_timeout is 30 s
