"""How many sessions each client has: the options ``sessions_per`` and ``max_sessions``.

The count is of this process. Routes that have the same function share it.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from .handshake import Reject

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..options import Options

__all__ = ["admit"]


class _Clients:
    """Sessions by function and client. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, in the child of a fork: its parent's sessions are its parent's."""
        self._lock = threading.Lock()
        self._sessions: Counter[Hashable] = Counter()

    def enter(self, client: Hashable, limit: int) -> bool:
        """Count a session, unless the client has as many as it may have."""
        with self._lock:
            if self._sessions[client] >= limit:
                return False
            self._sessions[client] += 1
            return True

    def leave(self, client: Hashable) -> None:
        """A session is over. Clients without sessions are forgotten."""
        with self._lock:
            self._sessions[client] -= 1
            if self._sessions[client] <= 0:
                del self._sessions[client]


_CLIENTS = _Clients()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CLIENTS.reset)


def admit(environ: WSGIEnvironment, options: Options) -> Reject | Callable[[], None]:
    """Count the session that a request opens. Returns the function to call at its end, or the
    refusal if its client has as many sessions as it may have."""
    if options.sessions_per is None or options.max_sessions is None:
        return _nothing
    client = options.sessions_per(environ)
    if client is None:
        return _nothing
    try:
        hash(client)
    except TypeError:
        raise TypeError(
            f"sessions_per returns a value that can be the key of a dict, or None, not {client!r}"
        ) from None
    key = (options.sessions_per, client)
    if not _CLIENTS.enter(key, options.max_sessions):
        return Reject(
            429,
            f"This client has {options.max_sessions} sessions open, as many as it may have.",
            [("Retry-After", "5")],
        )
    return lambda: _CLIENTS.leave(key)


def _nothing() -> None:
    pass
