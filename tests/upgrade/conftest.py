from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support.calls import Call


@pytest.fixture
def call() -> Iterator[Call]:
    made = Call()
    yield made
    made.peer.close_socket()
    made.pool.shutdown()
    made.ours.close()
