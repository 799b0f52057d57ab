from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from syncws.wakeup import Wakeup


@pytest.fixture
def wakeup() -> Iterator[Wakeup]:
    made = Wakeup()
    yield made
    made.close()


def ready(wakeup: Wakeup) -> bool:
    fd = wakeup.fileno()
    assert fd is not None
    return bool(select.select([fd], [], [], 0)[0])


def test_wakes_a_sleeper(wakeup: Wakeup) -> None:
    sleeper = threading.Thread(target=wakeup.wait, args=(None,))
    sleeper.start()
    wakeup.set()
    sleeper.join(10)
    assert not sleeper.is_alive()


def test_is_remembered_until_cleared(wakeup: Wakeup) -> None:
    wakeup.set()
    wakeup.set()
    wakeup.wait(None)
    assert ready(wakeup), "the descriptor made later knows too"
    wakeup.clear()
    assert not ready(wakeup)
    wakeup.set()
    assert ready(wakeup)


def test_many_wake_ups_block_nobody(wakeup: Wakeup) -> None:
    wakeup.fileno()
    for _ in range(100_000):
        wakeup.set()
    while ready(wakeup):
        wakeup.clear()


def test_without_a_descriptor(wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe() -> tuple[int, int]:
        raise OSError("too many open files")

    monkeypatch.setattr("os.pipe", pipe)
    assert wakeup.fileno() is None
    wakeup.set()
    wakeup.wait(None)


def test_set_after_close(wakeup: Wakeup) -> None:
    wakeup.fileno()
    wakeup.close()
    wakeup.set()
    wakeup.close()
