"""gunicorn's statsd, where sessions are not requests.

How long sessions last says nothing about how quick requests are: it is kept
out of ``gunicorn.request.duration``. Sessions have figures of their own.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from gunicorn.glogging import Logger

from ..session.registry import Stats

__all__ = ["Statsd"]


class Statsd:
    """What a worker tells statsd, through its logger ``gunicorn.instrument.statsd.Statsd``."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._access = log.access
        self._counted: dict[str, int] = {}
        log.access = self.access

    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        """In place of the logger's own: as that, but no duration for sessions."""
        if not str(resp.status).startswith("101"):
            self._access(resp, req, environ, request_time)
            return
        Logger.access(self._log, resp, req, environ, request_time)
        self._log.increment("gunicorn.requests", 1)
        self._log.increment("gunicorn.request.status.101", 1)

    def report(self, stats: Stats) -> None:
        """One gauge a worker, since a gauge of all would show one of them; and
        counters, which add up."""
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
