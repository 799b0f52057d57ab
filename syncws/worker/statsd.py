"""gunicorn's statsd, where sessions are not requests.

The length of a session says nothing about the speed of requests, so it is kept out of
``gunicorn.request.duration``. Sessions have figures of their own.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from gunicorn.glogging import Logger

from ..session.registry import Stats
from .capacity import RareWarning

__all__ = ["Statsd"]


class Statsd:
    """Reports to statsd through gunicorn's logger ``gunicorn.instrument.statsd.Statsd``."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._access = log.access
        self._counted: dict[str, int] = {}
        log.access = self.access
        if log.sock is not None:
            log.sock = _StatsdSocket(log.sock)

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """In place of the logger's own method: the same, without a duration for sessions."""
        if not str(resp.status).startswith("101"):
            self._access(resp, req, environ, request_time)
            return
        Logger.access(self._log, resp, req, environ, request_time)
        self._log.increment("gunicorn.requests", 1)
        self._log.increment("gunicorn.request.status.101", 1)

    def report(self, stats: Stats) -> None:
        """Send the open sessions as a gauge of this worker (one gauge for all workers would
        show one of them), and the other figures as counters, which add up."""
        self._log.gauge(f"syncws.sessions.{os.getpid()}", stats.open)
        figures = asdict(stats)
        del figures["open"]
        for cause, number in figures.pop("closed").items():
            figures[f"closed.{cause}"] = number
        for name, number in figures.items():
            more = number - self._counted.get(name, 0)
            if more:
                self._log.increment(f"syncws.{name}", more)
        self._counted = figures


class _StatsdSocket:
    """In place of the socket of gunicorn's logger, which logs a traceback for each figure
    that can not be sent: one a second in an idle worker."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._warn = RareWarning()

    def send(self, data: bytes) -> None:
        try:
            self._sock.send(data)
        except OSError as exc:
            self._warn("statsd can not be reached, figures are lost: %s", exc)
