from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from syncws.system.latch import Latch

from ..support.background import Background


def at_step(number: int, interrupt: Callable[[], object], call: Callable[[], object]) -> bool:
    """Run ``call`` and, at its step of that number, ``interrupt`` in the same thread, as Python
    runs a signal handler. Return whether ``call`` has so many steps."""
    steps = count()
    interrupted = False

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal interrupted
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == number:
            interrupted = True
            interrupt()
        return trace

    def run() -> None:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)

    Background(run).result()
    return interrupted


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
