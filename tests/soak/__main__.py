"""Keep a gunicorn worker busy with many sessions, and see what is left of them.

    python -m tests.soak --seconds 120 --sessions 1000

All peers live in one thread of this process. First the worker warms up with
them, then all leave, and its memory, threads and descriptors are noted. Then
they come back for the time given, and leave again: everything has to be as
before. An echo that is wrong, a line in the log that tells of trouble, a
session that does not end as it should end the soak with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sysconfig
import time
from collections import Counter
from random import Random
from typing import Any

from ..support import processes
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn
from ..support.swarm import SwarmPeer
from .peers import (
    LEAVES,
    LIVES,
    STALLS,
    Life,
)

#: Seconds, and what part of the whole time at most.
WARM_UP = 30.0
WARM_UP_PART = 0.25

#: Bytes that the worker may have grown by after the warm-up: what malloc's arenas keep differs by
#: some 8 MiB from one time to the next, without a trend (54,000 sessions in eight rounds).
MEMORY_TOLERANCE = 12 * 1024 * 1024

#: The same without the GIL, where each thread has heaps of its own. The next thread takes over what
#: an ended one leaves, more or less of it: without a trend, the worker had 58 to 109 MiB after
#: rounds of 200 and 300 sessions, with the same blocks in use.
FREE_THREADED_MEMORY_TOLERANCE = 64 * 1024 * 1024

#: Blocks of Python's own allocator that it may have more, out of some 160,000. They do not vary
#: like that (10 more after 20,000 sessions), and an object left behind by each session is one.
BLOCKS_TOLERANCE = 1000

#: The same without the GIL, out of some 220,000. Each of the threads that are left, which are other
#: ones each time, has copies of the bytecode that it has run: up to 2000 blocks more or less.
FREE_THREADED_BLOCKS_TOLERANCE = 3000

#: Objects of the garbage collector. They do not vary with the threads.
OBJECTS_TOLERANCE = 200

#: What gunicorn says when all is well.
EXPECTED_LINE = re.compile(r'\[.*\] \[\d+\] \[INFO\] |[\d.]+ - - \[.*\] "GET /\S* HTTP/1\.1" ')


def keep_busy(port: int, sessions: int, seconds: float, random: Random) -> Counter[Life]:
    """So many sessions all the time, each followed by another; gives how they lived."""
    lived: Counter[Life] = Counter()
    until = time.monotonic() + seconds

    async def one_after_the_other() -> None:
        await asyncio.sleep(random.random() * min(5.0, seconds / 4))
        while time.monotonic() < until:
            (life,) = random.choices(list(LIVES), list(LIVES.values()))
            peer = await SwarmPeer.open(port, "/echo")
            try:
                await life(peer, random)
            except Exception as exc:
                raise AssertionError(f"{life.__name__} went wrong: {exc!r}") from exc
            lived[life] += 1

    async def all_of_them() -> None:
        await asyncio.gather(*(one_after_the_other() for _ in range(sessions)))

    asyncio.run(all_of_them())
    return lived


def figures_when_calm(server: Server) -> dict[str, Any]:
    """The worker's figures when its last session has gone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        figures: dict[str, Any] = server.get("/figures").json()
        calm = not (figures["threads"] or figures["sessions"] or figures["stats"]["open"])
        if calm:
            return figures
        if time.monotonic() > deadline:
            raise SystemExit(
                f"the peers have gone, and something of their sessions stays: {figures}"
            )
        time.sleep(0.2)


def describe(when: str, figures: dict[str, Any]) -> None:
    print(
        f"{when}: {figures['memory'] / 1024**2:.1f} MiB, "
        f"{figures['blocks']} blocks, {figures['objects']} objects, "
        f"{figures['descriptors']} descriptors, "
        f"{figures['stats']['opened']} sessions so far"
    )


def complaints(
    before: dict[str, Any], after: dict[str, Any], lived: Counter[Life], lines: list[str]
) -> list[str]:
    """What is not as it should be."""
    found = []
    grown = after["memory"] - before["memory"]
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if grown > (FREE_THREADED_MEMORY_TOLERANCE if free_threaded else MEMORY_TOLERANCE):
        found.append(f"the worker has grown by {grown / 1024**2:.1f} MiB")
    left = after["blocks"] - before["blocks"]
    if left > (FREE_THREADED_BLOCKS_TOLERANCE if free_threaded else BLOCKS_TOLERANCE):
        found.append(f"{left} blocks of memory are left behind")
    objects = after["objects"] - before["objects"]
    if objects > OBJECTS_TOLERANCE:
        found.append(f"{objects} objects are left behind")
    if after["descriptors"] > before["descriptors"]:
        found.append(f"{after['descriptors'] - before['descriptors']} descriptors are left open")
    opened = after["stats"]["opened"]
    closed: Counter[str] = Counter(after["stats"]["closed"])
    if opened != sum(closed.values()) or opened != sum(lived.values()):
        found.append(f"{sum(lived.values())} peers, {opened} sessions opened, closed {closed}")
    for lives, causes in (
        (STALLS, ("send_timeout", "ping_timeout")),
        (LEAVES, ("eof", "error")),
        (set(LIVES) - STALLS - LEAVES, ("peer",)),
    ):
        peers, sessions = sum(lived[life] for life in lives), sum(closed[c] for c in causes)
        if peers != sessions:
            names = sorted(life.__name__ for life in lives)
            found.append(f"{peers} peers did {names}, and {sessions} sessions ended with {causes}")
    found.extend(
        f"unexpected in the log: {line}"
        for line in [line for line in lines if not EXPECTED_LINE.match(line)][:20]
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long peers come")
    parser.add_argument("--sessions", type=int, default=1000, help="how many at a time")
    parser.add_argument("--seed", type=int, help="of an earlier soak, to have the same lives again")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else time.time_ns() % 1_000_000
    print(f"{arguments.sessions} sessions for {arguments.seconds:g} s, --seed {seed}")
    random = Random(seed)
    processes.allow_descriptors(4 * arguments.sessions + 200)
    warm_up = min(WARM_UP, WARM_UP_PART * arguments.seconds)
    connections = f"--worker-connections={arguments.sessions * 2}"
    with gunicorn("tests.soak.app:app", connections, "--threads=1", "--backlog=4096") as server:
        lived = keep_busy(server.port, arguments.sessions, warm_up, random)
        before = figures_when_calm(server)
        describe("after the warm-up", before)
        cpu = processes.cpu_seconds(before["pid"])
        lived += keep_busy(server.port, arguments.sessions, arguments.seconds - warm_up, random)
        after = figures_when_calm(server)
        describe("at the end", after)
        cpu = processes.cpu_seconds(before["pid"]) - cpu
        server.stop()
        found = complaints(before, after, lived, server.lines)
    stats = after["stats"]
    print(f"{stats['messages_received']} messages in, closed {stats['closed']}, {cpu:.0f} s of CPU")
    print("lives:", ", ".join(f"{life.__name__} {lived[life]}" for life in LIVES))
    for complaint in found:
        print(complaint)
    if found:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
