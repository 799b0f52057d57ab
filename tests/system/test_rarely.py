from __future__ import annotations

import pytest

from syncws.system import rarely
from syncws.system.rarely import Rarely


def test_is_due_once_in_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr(rarely, "monotonic", lambda: now)
    once = Rarely(60.0)
    assert [once.is_due() for _ in range(3)] == [True, False, False]
    now += 59.9
    assert not once.is_due()
    now += 0.1
    assert [once.is_due() for _ in range(2)] == [True, False]
