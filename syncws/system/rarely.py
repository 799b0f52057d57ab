"""Something that is done at most once in a while: a log line whose cause peers decide."""

from __future__ import annotations

import threading
from time import monotonic

__all__ = ["Rarely"]


class Rarely:
    """Says when to do something: at most once in ``seconds``. Any thread may ask."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._last = -seconds

    def is_due(self) -> bool:
        """Whether to do it now. If so, it is not due again for ``seconds``."""
        now = monotonic()
        with self._lock:
            if now - self._last < self._seconds:
                return False
            self._last = now
            return True
