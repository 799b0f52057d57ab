"""What a worker and its sessions keep in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ..support.clients import connect
from ..support.servers import Server, gunicorn


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn("tests.support.memory_app:app") as server:
        yield server


def test_the_garbage_collector_leaves_the_masters_objects_alone(server: Server) -> None:
    # gunicorn alone is tens of thousands of objects.
    assert server.get("/").json()["frozen"] > 1000


def test_little_is_kept_below_a_session(server: Server) -> None:
    """A few calls more, and the thread of each session takes another page of memory."""
    peer = connect(server.port, "/session")
    kept = json.loads(peer.receive())
    peer.close_socket()
    assert len(kept["calls"]) <= 11, kept["calls"]
    assert kept["borrowed"] == "None"
