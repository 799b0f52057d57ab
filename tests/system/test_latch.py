from __future__ import annotations

from itertools import count

import pytest

from syncws.system.latch import Latch

from ..support.background import Background
from ..support.steps import at_step


def test_what_is_set() -> None:
    latch = Latch()
    assert not latch.is_set()
    assert not latch.wait(0.01)
    latch.set()
    latch.set()
    assert latch.is_set()
    assert latch.wait(0)
    assert latch.wait()


def test_a_thread_that_waits_is_woken() -> None:
    latch = Latch()
    waiting = [Background(latch.wait) for _ in range(3)]
    latch.set()
    assert all(thread.result() for thread in waiting)


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_every_large_time_works(seconds: float) -> None:
    latch = Latch()
    waiting = Background(latch.wait, seconds)
    latch.set()
    assert waiting.result()


def test_a_signal_handler_may_set_it_at_each_step_of_a_wait_or_of_another_set() -> None:
    for name in ("wait", "set"):
        for number in count():
            latch = Latch()
            call = latch.set if name == "set" else lambda latch=latch: latch.wait(0.001)
            if not at_step(number, latch.set, call):
                assert number > 10
                break
            assert latch.is_set()
            assert latch.wait(0)
