"""Signal handlers at every step of a call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from types import CodeType
from typing import Any

from .background import Background


def at_step(
    number: int,
    interrupt: Callable[[], object],
    call: Callable[[], object],
    inside: CodeType | None = None,
) -> bool:
    """Run ``call`` and, at its step of that number, ``interrupt`` in the same thread, as Python
    runs a signal handler. Return whether ``call`` has so many steps. ``inside``: count the steps
    of this function only."""
    steps = count()
    interrupted = False

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal interrupted
        frame.f_trace_opcodes = True
        counts = inside is None or frame.f_code is inside
        if event == "opcode" and counts and next(steps) == number:
            interrupted = True
            interrupt()
        return trace

    def run() -> None:
        before = sys.gettrace()
        # Python 3.12 has these events only if a frame wants them when the function is set.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)

    Background(run).result()
    return interrupted
