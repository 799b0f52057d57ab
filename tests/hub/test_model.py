"""The model of rooms with a history, for a few seconds; see ``model``."""

from __future__ import annotations

import pytest

from .model import run


@pytest.mark.load
@pytest.mark.timeout(180)
def test_no_gap_no_double_and_no_disorder_whatever_fails() -> None:
    figures = run(10, seed=1)
    assert figures["received"] > 1000
    assert figures["joins"] > 10
