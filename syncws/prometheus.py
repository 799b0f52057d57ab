"""Metrics for Prometheus, over all workers: needs ``pip install 'syncws[prometheus]'``.

Import this module in your application, and serve ``application``, which is a WSGI application,
at ``/metrics``. With several workers set the environment variable ``PROMETHEUS_MULTIPROC_DIR`` to
a directory that is empty when gunicorn starts: see ``docs/deploy/metrics.md``.

Sessions are counted when they open and end. Messages and bytes of open sessions, and the figures
of hubs, are added every ``EVERY`` seconds by the scheduler while there are sessions, for each
scrape that this process answers, and when the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections import Counter as Counted
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    make_wsgi_app,
    multiprocess,
)
from prometheus_client.registry import Collector

from .hub.figures import HUBS, Figures
from .session.common import Traffic
from .session.registry import REGISTRY
from .system.scheduler import SCHEDULER
from .upgrade.application import ROUTE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from prometheus_client import Metric

    from .hub.figures import CountedHub
    from .session.common import CommonSession

__all__ = ["application"]

# They have no types of their own.
_mark_process_dead: Any = multiprocess.mark_process_dead
_merge: Any = multiprocess.MultiProcessCollector.merge

#: Seconds between two looks at the messages and bytes of open sessions. Below the 15 s that
#: Prometheus's own configuration has between two scrapes.
EVERY = 5.0

_OPEN = Gauge(
    "syncws_sessions_open", "Sessions that are open.", ["route"], multiprocess_mode="livesum"
)
_OPENED = Counter("syncws_sessions_opened", "Sessions that were opened.", ["route"])
_CLOSED = Counter("syncws_sessions_closed", "Sessions that have ended.", ["route", "cause"])
_REFUSED = Counter("syncws_sessions_refused", "WebSocket requests that were refused.", ["status"])
_SECONDS = Histogram(
    "syncws_session_seconds",
    "How long sessions were open.",
    ["route"],
    buckets=(1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600),
)
#: The counters of the figures of ``Traffic``, in its order.
_TRAFFIC = (
    Counter("syncws_messages_received", "Messages that were received."),
    Counter("syncws_messages_sent", "Messages that were sent."),
    Counter("syncws_bytes_received", "Bytes received, frame headers included."),
    Counter("syncws_bytes_sent", "Bytes sent, frame headers included."),
)
_HUB_MEMBERS = Gauge(
    "syncws_hub_members",
    "Members of all rooms; a session in two rooms is two members.",
    ["prefix"],
    multiprocess_mode="livesum",
)
_HUB_DROPPED = Counter(
    "syncws_hub_dropped", "How often a member's queue was full.", ["prefix", "on_full"]
)
_HUB_UNDELIVERED = Counter(
    "syncws_hub_undelivered", "Messages that did not reach other processes.", ["prefix"]
)
_HUB_GAPS = Counter(
    "syncws_hub_gaps", "How often messages of other processes may have been missed.", ["prefix"]
)


class _Metrics:
    """Observes the sessions of this process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, in the child of a fork."""
        # Guards all of the below. Held while the metrics' files are written, never over other I/O.
        self._lock = threading.Lock()
        #: When each session was opened, and its traffic that is in the counters.
        self._sessions: dict[CommonSession, tuple[float, Traffic]] = {}
        self._open: Counted[str] = Counted()
        #: The figures of hubs that are in the counters, and the prefixes of all hubs there were.
        self._hubs: WeakKeyDictionary[CountedHub, Figures] = WeakKeyDictionary()
        self._prefixes: set[str] = set()
        self._ticking = False

    def opened(self, session: CommonSession) -> None:
        route = _route(session)
        with self._lock:
            self._sessions[session] = (monotonic(), Traffic())
            self._open[route] += 1
            _OPEN.labels(route).set(self._open[route])
            _OPENED.labels(route).inc()
            start = not self._ticking
            self._ticking = True
        if start:
            try:
                SCHEDULER.enter(self)
            except RuntimeError:  # no thread is left; the sessions' ends are counted all the same
                with self._lock:
                    self._ticking = False
            else:
                SCHEDULER.schedule(self, monotonic() + EVERY)

    def closed(self, session: CommonSession) -> None:
        route = _route(session)
        reason = session._reason
        assert reason is not None
        with self._lock:
            if session not in self._sessions:
                return  # it had opened before this module was imported
            self._count(session)
            since, _ = self._sessions.pop(session)
            self._open[route] -= 1
            _OPEN.labels(route).set(self._open[route])
            _CLOSED.labels(route, reason.cause).inc()
            _SECONDS.labels(route).observe(monotonic() - since)

    def refused(self, status: int) -> None:
        _REFUSED.labels(str(status)).inc()

    def on_time(self, now: float) -> None:
        """A look, by the scheduler."""
        with self._lock:
            self._count_all()
            self._ticking = bool(self._sessions)
            if self._ticking:
                SCHEDULER.schedule(self, now + EVERY)
            else:
                SCHEDULER.leave(self)

    def update(self) -> None:
        """Count what sessions and hubs of this process have done until now."""
        with self._lock:
            self._count_all()

    def _count_all(self) -> None:
        for session in self._sessions:
            self._count(session)
        members: Counted[str] = Counted()
        for hub in HUBS.all():
            prefix, now = hub._prefix, hub._figures()
            before = self._hubs.get(hub, Figures(0, {}, 0, 0))
            self._hubs[hub] = now
            self._prefixes.add(prefix)
            members[prefix] += now.members
            for on_full, number in now.dropped.items():
                dropped = max(0, number - before.dropped.get(on_full, 0))
                _HUB_DROPPED.labels(prefix, on_full).inc(dropped)
            _HUB_UNDELIVERED.labels(prefix).inc(max(0, now.undelivered - before.undelivered))
            _HUB_GAPS.labels(prefix).inc(max(0, now.gaps - before.gaps))
        for prefix in self._prefixes:
            _HUB_MEMBERS.labels(prefix).set(members[prefix])

    def _count(self, session: CommonSession) -> None:
        since, counted = self._sessions[session]
        traffic = session._traffic()
        for counter, before, now in zip(_TRAFFIC, counted, traffic, strict=True):
            counter.inc(max(0, now - before))
        self._sessions[session] = (since, traffic)


def _route(session: CommonSession) -> str:
    return str(session.environ.get(ROUTE_KEY, ""))


def _forget_the_dead(directory: str) -> None:
    """Remove the gauges of workers that have ended. Their counters stay."""
    for path in Path(directory).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                with contextlib.suppress(FileNotFoundError):  # another worker did it
                    _mark_process_dead(int(pid), directory)
            except PermissionError:
                pass  # it runs


class _AllProcesses(Collector):
    """The metrics of all processes. A worker that has just created a file may not have given it
    its size yet; prometheus_client's own collector fails then, and with it the scrape."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def collect(self) -> Iterable[Metric]:
        files = []
        for path in self._directory.glob("*.db"):
            with contextlib.suppress(FileNotFoundError):  # another worker forgets a dead one
                if path.stat().st_size:
                    files.append(str(path))
        metrics: Iterable[Metric] = _merge(files, accumulate=True)
        return metrics


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The WSGI application for ``/metrics``: all metrics of prometheus_client, yours included.

    With ``PROMETHEUS_MULTIPROC_DIR`` they are of all workers, otherwise of this process. It does
    not ask who is there: keep it from the public in your proxy.
    """
    _METRICS.update()
    registry = prometheus_client.REGISTRY
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is not None:
        _forget_the_dead(directory)
        registry = CollectorRegistry()
        registry.register(_AllProcesses(directory))
    answer: Iterable[bytes] = make_wsgi_app(registry)(environ, start_response)
    return answer


_METRICS = _Metrics()
REGISTRY.observer = _METRICS
atexit.register(_METRICS.update)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_METRICS.reset)
