"""Deadlines: the one place that turns a timeout into a moment, and back.

A timeout is a number of seconds to go; a deadline is a moment (monotonic). Every timeout that a
user can give works here. 0 and less have passed at once. ``math.inf`` never passes. Python's
locks wait for ``threading.TIMEOUT_MAX`` seconds (292 years) at most, so longer waits are cut to
that.
"""

from __future__ import annotations

import math
from threading import TIMEOUT_MAX
from time import monotonic

__all__ = ["Deadline", "bounded"]


def bounded(timeout: float) -> float:
    """``timeout`` cut to the range that locks and selectors take: from 0 to ``TIMEOUT_MAX``."""
    return min(max(0.0, timeout), TIMEOUT_MAX)


class Deadline:
    """The moment by which something has to be done. Immutable, so any thread may use it.

    Raises ``ValueError`` for NaN: a deadline that is not a number would never pass.
    """

    __slots__ = ("at",)

    def __init__(self, timeout: float | None) -> None:
        #: The moment (monotonic); ``math.inf`` when ``timeout`` is None.
        self.at = math.inf if timeout is None else monotonic() + timeout
        if math.isnan(self.at):
            raise ValueError("a timeout is a number of seconds, not NaN")

    @property
    def left(self) -> float:
        """Seconds to go, from 0 to ``TIMEOUT_MAX``, as locks and selectors take them."""
        return bounded(self.at - monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment has come."""
        return monotonic() >= self.at
