"""Deadlines with every timeout that a user can give."""

from __future__ import annotations

import math
import threading
from time import monotonic

import pytest

from syncws.system.deadline import Deadline, bounded


@pytest.mark.parametrize("timeout", [None, math.inf, 1e308, 1e12])
def test_an_endless_deadline_does_not_pass(timeout: float | None) -> None:
    deadline = Deadline(timeout)
    assert not deadline.passed
    assert 1e9 < deadline.left <= threading.TIMEOUT_MAX
    lock = threading.Lock()
    assert lock.acquire(timeout=deadline.left), "a lock takes it"


@pytest.mark.parametrize("timeout", [0, -1, -math.inf])
def test_no_time_has_passed_at_once(timeout: float) -> None:
    deadline = Deadline(timeout)
    assert deadline.passed
    assert deadline.left == 0


def test_what_is_left_of_a_timeout() -> None:
    before = monotonic()
    deadline = Deadline(60)
    assert before + 60 <= deadline.at <= monotonic() + 60
    assert 0 < deadline.left <= 60


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not NaN"):
        Deadline(math.nan)


def test_bounded() -> None:
    assert [bounded(timeout) for timeout in (-1, 0, 1.5)] == [0, 0, 1.5]
    assert bounded(math.inf) == threading.TIMEOUT_MAX
