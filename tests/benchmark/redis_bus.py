"""What the hub's bus costs: two processes and a Redis of their own.

    python -m tests.benchmark.redis_bus [--messages 20000] [--runs 3] [--write]

One process sends to a room, the other has a member in it; with and without a history. Then what
it costs to join a room after having missed 500 messages, and to ask for 1,000 members. Prints
the section "What it costs" of ``docs/howto/hub.md``, and with ``--write`` puts it there.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

import redis

from syncws import History, Hub

from ..support.redis_server import RedisServer
from ..support.servers import ROOT
from ..support.sessions import session_with_peer

PAGE = ROOT / "docs" / "howto" / "hub.md"
HEADING = "## What it costs\n"

SIZE = 64
ROUND_TRIPS = 2000
MISSED = 500
MEMBERS = 1000
TIMES = 50
#: More than a member's queue is ever to hold here.
QUEUE = 1_000_000

#: The other process: answers each line in turn, and then sends as fast as it can.
SENDER = """
import sys
from syncws import History, Hub
hub = Hub(sys.argv[1], history=History(messages=1000) if sys.argv[5] == "True" else None)
for _ in range(int(sys.argv[2])):
    sys.stdin.readline()
    hub.send("room", "x" * int(sys.argv[4]))
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    hub.send("room", "x" * int(sys.argv[4]))
"""


class Over(NamedTuple):
    """Messages of one run; latencies are in seconds."""

    near: float
    far: float
    rate: float


class Costs(NamedTuple):
    """One run; all but rates are in seconds."""

    without: Over
    kept: Over
    join: float
    join_after_missing: float
    presence: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.redis_bus")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    server = RedisServer()
    with redis.Redis.from_url(server.url) as client:
        version = client.info("server")["redis_version"]
    runs = []
    for number in range(arguments.runs):
        runs.append(run(server, arguments.messages))
        print(f"run {number + 1}: {runs[-1]}", file=sys.stderr)
    server.kill()
    text = section(runs, version)
    print(text)
    if arguments.write:
        before, heading, _ = PAGE.read_text(encoding="utf-8").partition(HEADING)
        PAGE.write_text(before + heading + text, encoding="utf-8")


def run(server: RedisServer, messages: int) -> Costs:
    return Costs(
        messages_over(server, messages, kept=False),
        messages_over(server, messages, kept=True),
        *join_after_missing(server),
        ask_for_members(server),
    )


def section(runs: list[Costs], version: str) -> str:
    """The section of the page: medians of the runs."""
    without, kept = (
        Over(*(statistics.median(each) for each in zip(*overs, strict=True)))
        for overs in ([each.without for each in runs], [each.kept for each in runs])
    )
    join, missed, presence = (
        statistics.median(each) for each in zip(*(each[2:] for each in runs), strict=True)
    )
    return f"""
`python -m tests.benchmark.redis_bus` measures a message of {SIZE} bytes from one process to
another, over a Redis on the same machine. These figures are medians of {len(runs)} runs on
{os.cpu_count()} cores, with Python {platform.python_version()} and Redis {version}.

| | without a history | with a history |
|---|---|---|
| latency within one process, no Redis | {micro(without.near)} | {micro(kept.near)} |
| latency from another process | {micro(without.far)} | {micro(kept.far)} |
| messages a second from another process | {without.rate:,.0f} | {kept.rate:,.0f} |

| | |
|---|---|
| a join that has missed nothing | {milli(join)} |
| a join that has missed {MISSED} messages, until the member has read them | {milli(missed)} |
| `hub.presence()` with {MEMBERS:,} members | {milli(presence)} |
"""


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"


def milli(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def messages_over(server: RedisServer, messages: int, *, kept: bool) -> Over:
    history = History(messages=1000) if kept else None
    session, peer = session_with_peer()
    hub = Hub(server.url, queue=QUEUE, history=history)
    local = Hub(queue=QUEUE, history=history)
    arguments = map(str, (server.url, ROUND_TRIPS, messages, SIZE, kept))
    with (
        hub.join("room", session),
        local.join("room", session),
        subprocess.Popen(
            [sys.executable, "-c", SENDER, *arguments], stdin=subprocess.PIPE, text=True
        ) as sender,
    ):
        assert sender.stdin is not None
        near, far = [], []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            local.send("room", "x" * SIZE)
            peer.receive()
            near.append(time.perf_counter() - started)
            started = time.perf_counter()
            print(file=sender.stdin, flush=True)
            peer.receive()
            far.append(time.perf_counter() - started)
        print(file=sender.stdin, flush=True)
        started = time.perf_counter()
        for _ in range(messages):
            peer.receive()
        rate = messages / (time.perf_counter() - started)
    session.terminate()
    peer.close_socket()
    hub.close()
    return Over(statistics.median(near), statistics.median(far), rate)


def join_after_missing(server: RedisServer) -> tuple[float, float]:
    """A join that has missed nothing, and one that has missed messages."""
    hub = Hub(server.url, queue=QUEUE, history=History(messages=1000))
    first = hub.send_json("missed", {"text": "x" * SIZE})
    for _ in range(MISSED):
        hub.send_json("missed", {"text": "x" * SIZE})
    medians = []
    for after, missed in ((None, 0), (first, MISSED)):
        took = []
        for _ in range(TIMES):
            session, peer = session_with_peer()
            started = time.perf_counter()
            with hub.join("missed", session, after=after):
                for _ in range(missed):
                    peer.receive()
                took.append(time.perf_counter() - started)
            session.terminate()
            peer.close_socket()
        medians.append(statistics.median(took))
    hub.close()
    return medians[0], medians[1]


def ask_for_members(server: RedisServer) -> float:
    hub = Hub(server.url)
    session, peer = session_with_peer()
    with ExitStack() as joined:
        for number in range(MEMBERS):
            joined.enter_context(
                hub.join("members", session, member=number, info={"name": f"member {number}"})
            )
        took = []
        for _ in range(TIMES):
            started = time.perf_counter()
            assert len(hub.presence("members")) == MEMBERS
            took.append(time.perf_counter() - started)
    session.terminate()
    peer.close_socket()
    hub.close()
    return statistics.median(took)


if __name__ == "__main__":
    main()
