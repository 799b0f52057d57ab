"""Idle connections: silent new ones, and those kept alive between two requests.

They have no thread, but each counts against ``worker_connections``. When there is no room
for a new connection, the one that has been idle longest is closed. nginx does the same
(``ngx_drain_connections()``). So the room that is kept for HTTP is there for requests.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gunicorn.workers.gthread import ThreadWorker

__all__ = ["IdleConnections"]


class IdleConnections:
    """The idle connections of ``worker``. For the main thread."""

    def __init__(self, worker: ThreadWorker) -> None:
        self._worker: Any = worker

    def exist(self) -> bool:
        """Whether there is an idle connection."""
        return bool(self._worker.pending_conns or self._worker.keepalived_conns)

    def close_one(self) -> bool:
        """Close one idle connection, silent ones first; return whether there was one.

        Not to be called while the poller's events are dispatched.
        """
        for waiting in (self._worker.pending_conns, self._worker.keepalived_conns):
            for conn in waiting:
                if not _is_readable(conn):  # else its request is about to be handled
                    waiting.remove(conn)
                    self._worker.poller.unregister(conn.sock)
                    self._worker.nr_conns -= 1
                    conn.close()
                    return True
        return False


def _is_readable(conn: Any) -> bool:
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(0))
