"""What a worker and its sessions keep in memory."""

from __future__ import annotations

from ..support.servers import gunicorn


def test_the_garbage_collector_leaves_the_masters_objects_alone() -> None:
    with gunicorn("tests.support.memory_app:app") as server:
        # gunicorn alone is tens of thousands of objects.
        assert server.get("/").json()["frozen"] > 1000
