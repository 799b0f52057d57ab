"""Deadlines: the one place that turns a timeout into a moment, and back.

A timeout is in seconds to go, a deadline is a moment (monotonic). Every time that a user can
give works here: 0 and less are over at once, ``math.inf`` and what no lock of Python's can
wait for (``threading.TIMEOUT_MAX``, some 292 years) are as good as for ever.
"""

from __future__ import annotations

import math
from threading import TIMEOUT_MAX
from time import monotonic

__all__ = ["Deadline", "bounded"]


def bounded(timeout: float) -> float:
    """``timeout`` as locks, conditions and selectors take it: from 0 to ``TIMEOUT_MAX``."""
    return min(max(0.0, timeout), TIMEOUT_MAX)


class Deadline:
    """The moment by which something has to be done; immutable, and so for any thread."""

    __slots__ = ("at",)

    def __init__(self, timeout: float | None) -> None:
        #: The moment (monotonic); ``math.inf`` when ``timeout`` is None.
        self.at = math.inf if timeout is None else monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds to go, from 0 to ``TIMEOUT_MAX``: what locks and selectors take."""
        return bounded(self.at - monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment has come."""
        return monotonic() >= self.at
