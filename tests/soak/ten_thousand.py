"""Ten thousand sessions on two workers of one machine.

    python -m tests.soak.ten_thousand [--sessions 10000] [--seconds 60]

They are opened, stay for a minute with nothing but their pings, each answers
then, and all of them are told when gunicorn stops. What that costs is printed.
All peers live in one thread of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

from ..support import processes
from ..support.servers import Server, gunicorn
from ..support.swarm import SwarmPeer

#: Sessions that are being opened at a time.
AT_A_TIME = 200
#: Connections from one address: there are some 28,000 ports for each.
FROM_ONE_ADDRESS = 20_000


def check_limits(sessions: int, workers: int) -> None:
    """Say what is in the way before it is."""
    processes.allow_descriptors(sessions + 1000)
    each = sessions // workers
    for name, needed in (
        ("kernel/threads-max", sessions + 1000),
        ("kernel/pid_max", sessions + 1000),
        ("vm/max_map_count", 2 * each + 5000),
    ):
        limit = int(Path("/proc/sys", name).read_text())
        if limit < needed:
            setting = name.replace("/", ".")
            raise SystemExit(f"{setting} is {limit}: set it to {needed} with sysctl, as root")


async def open_all(port: int, sessions: int) -> list[SwarmPeer]:
    turns = asyncio.Semaphore(AT_A_TIME)

    async def open_one(number: int) -> SwarmPeer:
        async with turns:
            source = f"127.0.0.{1 + number // FROM_ONE_ADDRESS}"
            return await SwarmPeer.open(port, "/echo", source)

    return list(await asyncio.gather(*map(open_one, range(sessions))))


async def hold(peers: list[SwarmPeer], seconds: float) -> None:
    await asyncio.gather(*(peer.idle(seconds) for peer in peers))


async def echo_all(peers: list[SwarmPeer]) -> None:
    for number, peer in enumerate(peers):
        peer.send(str(number))
    await asyncio.gather(*(peer.expect_echo(str(number)) for number, peer in enumerate(peers)))


async def until_told(peers: list[SwarmPeer]) -> None:
    codes = await asyncio.gather(*(peer.expect_end() for peer in peers))
    if set(codes) != {1001}:
        raise AssertionError(f"not everybody was told: {set(codes)}")


async def run(server: Server, sessions: int, seconds: float) -> None:
    workers = processes.children(server.pid)
    memory = sum(map(processes.resident_bytes, workers))
    began = time.monotonic()
    peers = await open_all(server.port, sessions)
    print(f"opened {sessions} sessions in {time.monotonic() - began:.1f} s")
    grown = sum(map(processes.resident_bytes, workers)) - memory
    counts = [processes.threads(pid) for pid in workers]
    print(f"{grown / sessions / 1024:.0f} KiB a session; threads of the workers: {counts}")
    cpu = sum(map(processes.cpu_seconds, workers))
    await hold(peers, seconds)
    cpu = sum(map(processes.cpu_seconds, workers)) - cpu
    pings = sum(peer.pings for peer in peers)
    print(f"idle for {seconds:g} s: {pings} pings, {100 * cpu / seconds:.1f} % of a core")
    began = time.monotonic()
    await echo_all(peers)
    print(f"each has answered, in {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    server.signal(signal.SIGTERM)
    await until_told(peers)
    print(f"each was told 1001, and has gone, in {time.monotonic() - began:.1f} s")
    while server.running:
        await asyncio.sleep(0.01)
    print(f"gunicorn has ended {time.monotonic() - began:.1f} s after the signal")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.ten_thousand")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long they are idle")
    arguments = parser.parse_args()
    check_limits(arguments.sessions, arguments.workers)
    with gunicorn(
        "examples.echo:app",
        f"--workers={arguments.workers}",
        # The kernel does not share connections out evenly.
        f"--worker-connections={arguments.sessions}",
        "--backlog=4096",
        "--graceful-timeout=60",
    ) as server:
        server.wait_for_line("worker is ready", count=arguments.workers)
        asyncio.run(run(server, arguments.sessions, arguments.seconds))
        assert "Traceback" not in server.output


if __name__ == "__main__":
    main()
