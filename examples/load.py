"""A load generator: many sessions that each send a message and wait for the echo, again and again.

Start a server that echoes, then the load::

    gunicorn examples.echo:app
    python -m examples.load ws://127.0.0.1:8000/echo --sessions 100 --seconds 10

It prints how many messages came back in a second, and how long that took. Each session is a thread
of this process. For figures that you want to compare give the server and the load different cores;
a process of Python with a GIL uses one core, so start several for more load.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time

import syncws


class Load:
    """What the sessions have seen. Each session has lists of its own, put together at the end."""

    def __init__(self, url: str, sessions: int, seconds: float, size: int) -> None:
        self.url = url
        self.seconds = seconds
        self.message = "x" * size
        self.latencies: list[list[float]] = []
        self.failures: list[Exception] = []
        # All sessions are open before the first one sends.
        self._ready = threading.Barrier(sessions, self._begin)
        self._until = 0.0
        self._threads = [threading.Thread(target=self._run) for _ in range(sessions)]

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def _begin(self) -> None:
        self._until = time.monotonic() + self.seconds

    def _run(self) -> None:
        latencies: list[float] = []
        self.latencies.append(latencies)
        try:
            with syncws.connect(self.url) as session:
                self._ready.wait()
                while (before := time.monotonic()) < self._until:
                    session.send(self.message)
                    if session.receive(timeout=30) != self.message:
                        raise ValueError(f"{self.url} does not echo")
                    latencies.append(time.monotonic() - before)
        except threading.BrokenBarrierError:
            pass  # another session did not open
        except (syncws.SyncwsError, OSError, ValueError) as failure:
            self.failures.append(failure)
            self._ready.abort()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.load", description="Load an echo.")
    parser.add_argument("url")
    parser.add_argument("--sessions", type=int, default=10, help="at once (10)")
    parser.add_argument("--seconds", type=float, default=5.0, help="to go on (5)")
    parser.add_argument("--size", type=int, default=32, help="bytes of a message (32)")
    given = parser.parse_args(arguments)
    load = Load(given.url, given.sessions, given.seconds, given.size)
    load.run()
    latencies = [each for one in load.latencies for each in one]
    for failure in load.failures[:3]:
        print(f"failed: {type(failure).__name__}: {failure}")
    if len(latencies) < 2:
        print("no messages came back")
        return 1
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    print(f"{len(latencies) / given.seconds:,.0f} messages a second, {given.sessions} sessions")
    print(f"latency: {cuts[49] * 1000:.2f} ms median, {cuts[98] * 1000:.2f} ms in 99 % of cases")
    return 1 if load.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
