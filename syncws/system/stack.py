"""What a signal handler has interrupted.

Python runs a signal handler between two steps of the main thread, also right behind the call that
takes a lock, before anything could note which thread has taken it.
"""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["is_on_stack"]


def is_on_stack(owner: object) -> bool:
    """Whether the calling thread is in a method of ``owner``, below the method that asks."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_varnames[:1] == ("self",) and frame.f_locals.get("self") is owner:
            return True
        frame = frame.f_back
    return False
