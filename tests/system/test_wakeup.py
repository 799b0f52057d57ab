from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator

import pytest

from syncws.system.wakeup import Wakeup


@pytest.fixture(params=["eventfd", "pipe"])
def wakeup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wakeup]:
    if request.param == "pipe":
        monkeypatch.delattr("os.eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("this system has no eventfd")
    made = Wakeup()
    yield made
    made.close()


def ready(wakeup: Wakeup) -> bool:
    fd = wakeup.fileno()
    assert fd is not None
    return bool(select.select([fd], [], [], 0)[0])


def test_wakes_a_thread_that_polls(wakeup: Wakeup) -> None:
    fd = wakeup.fileno()
    sleeper = threading.Thread(target=select.select, args=([fd], [], []))
    sleeper.start()
    wakeup.set()
    sleeper.join(10)
    assert not sleeper.is_alive()


def test_calls_when_no_thread_polls(wakeup: Wakeup) -> None:
    calls: list[int] = []
    wakeup.set()  # there may be no function to call yet
    wakeup.call = lambda: calls.append(1)
    wakeup.set()
    assert len(calls) == 1
    wakeup.fileno()
    wakeup.set()
    assert len(calls) == 1
    wakeup.close()
    wakeup.set()
    assert len(calls) == 2


def test_is_remembered_until_cleared(wakeup: Wakeup) -> None:
    wakeup.set()
    wakeup.set()
    assert ready(wakeup), "the descriptor made later knows too"
    wakeup.clear()
    assert not ready(wakeup)
    wakeup.set()
    assert ready(wakeup)


def test_many_wake_ups_do_not_block(wakeup: Wakeup) -> None:
    wakeup.fileno()
    for _ in range(100_000):
        wakeup.set()
    while ready(wakeup):
        wakeup.clear()


def test_without_a_descriptor(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: int) -> tuple[int, int]:
        raise OSError("too many open files")

    monkeypatch.setattr("os.eventfd", fail, raising=False)
    monkeypatch.setattr("os.pipe", fail)
    assert wakeup.fileno() is None
    calls: list[int] = []
    wakeup.call = lambda: calls.append(1)
    wakeup.set()
    assert calls


def test_set_after_close(wakeup: Wakeup) -> None:
    wakeup.fileno()
    wakeup.close()
    wakeup.set()
    wakeup.close()


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this system has no eventfd")
def test_takes_one_descriptor() -> None:
    wakeup = Wakeup()
    before = len(os.listdir("/proc/self/fd"))
    wakeup.fileno()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    wakeup.close()
    assert len(os.listdir("/proc/self/fd")) == before
