"""How many threads a worker may have outside its HTTP pool, and the warnings about limits."""

from __future__ import annotations

import resource
import threading
from typing import Any

from ..system.logs import logger
from ..system.rarely import Rarely

__all__ = ["Capacity", "RareWarning", "check_limits"]

#: Seconds between two warnings of one kind: peers decide how often its cause occurs.
WARN_EVERY = 60.0

#: Descriptors of a session whose handler is not in ``receive()``: its socket, and the
#: wake-up of its ping thread (an eventfd; two more, a pipe, where there is none).
PER_SESSION = 2

#: Descriptors of a worker without connections, with some for the application.
PER_WORKER = 50


class RareWarning:
    """A warning that is logged at most once in ``WARN_EVERY`` seconds. For any thread."""

    def __init__(self) -> None:
        self._rarely = Rarely(WARN_EVERY)

    def __call__(self, message: str, *args: object) -> None:
        if self._rarely.is_due():
            logger.warning(message, *args)


class Capacity:
    """Counts the threads outside the pool: sessions, and slow request heads. Every method
    may be called from any thread.

    As many of ``worker_connections`` as there are ``threads`` are kept for HTTP.
    """

    def __init__(self, worker_connections: int, threads: int) -> None:
        self._worker_connections = worker_connections
        self._threads = threads
        # Guards the two below; held for a few instructions.
        self._lock = threading.Lock()
        self._sessions = 0
        self._heads = 0

    def take_session(self) -> str | None:
        """Count another session. If there is no room, return the reason instead."""
        with self._lock:
            if self._has_room():
                self._sessions += 1
                return None
            heads = f", {self._heads} request heads are slow to arrive" if self._heads else ""
            return (
                f"{self._sessions} sessions are open{heads}, and the other {self._threads} of "
                f"{self._worker_connections} worker_connections are kept for HTTP"
            )

    def take_head(self) -> bool:
        """Count another slow head; False if there is no room."""
        with self._lock:
            if not self._has_room():
                return False
            self._heads += 1
            return True

    def _has_room(self) -> bool:
        return self._sessions + self._heads < self._worker_connections - self._threads

    def give_session(self) -> None:
        """A session's thread is free again."""
        with self._lock:
            self._sessions -= 1

    def give_head(self) -> None:
        """A slow head's thread is free again."""
        with self._lock:
            self._heads -= 1


def check_limits(cfg: Any, log: Any) -> None:
    """Warn, when gunicorn starts, about settings that leave too little room."""
    if cfg.worker_connections <= cfg.threads:
        log.warning(
            "No WebSocket can be opened: worker_connections (%d) has to be greater than "
            "threads (%d), which are kept for HTTP.",
            cfg.worker_connections,
            cfg.threads,
        )
    needed = cfg.worker_connections * PER_SESSION + PER_WORKER
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        log.warning(
            "A worker may open %d descriptors (RLIMIT_NOFILE), and %d worker_connections may "
            "need %d. Raise the limit ('ulimit -n', LimitNOFILE= in systemd) or lower "
            "worker_connections. Without descriptors, new connections wait.",
            allowed,
            cfg.worker_connections,
            needed,
        )
