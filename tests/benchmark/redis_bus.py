"""What the hub's bus costs: two processes and a Redis of their own.

    python -m tests.benchmark.redis_bus [--messages 20000]

One process sends to a room, the other has a member in it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from syncws import Hub, Session
from syncws.options import Options
from syncws.system.tls import make_transport

from ..support.pairs import Peer, tcp_pair
from ..support.redis_server import RedisServer

SIZE = 64
ROUND_TRIPS = 2000
#: More than a member's queue is ever to hold here.
QUEUE = 1_000_000

#: The other process: answers each message in turn, and then sends as fast as it can.
SENDER = """
import sys
from syncws import Hub
hub = Hub(sys.argv[1])
for _ in range(int(sys.argv[2])):
    sys.stdin.readline()
    hub.send("room", "x" * int(sys.argv[4]))
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    hub.send("room", "x" * int(sys.argv[4]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.redis_bus")
    parser.add_argument("--messages", type=int, default=20_000)
    messages = parser.parse_args().messages
    server = RedisServer()
    ours, theirs = tcp_pair()
    session, peer = Session(make_transport(ours), Options(), environ={}), Peer(theirs)
    session._prepare()
    session._opened()
    hub, local = Hub(server.url, queue=QUEUE), Hub(queue=QUEUE)
    arguments = map(str, (server.url, ROUND_TRIPS, messages, SIZE))
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
        print(
            f"latency, median: {statistics.median(near) * 1e6:.0f} µs in one process, "
            f"{statistics.median(far) * 1e6:.0f} µs from another one, over Redis"
        )
        print(file=sender.stdin, flush=True)
        started = time.perf_counter()
        for _ in range(messages):
            peer.receive()
        print(f"{messages / (time.perf_counter() - started):,.0f} messages/s from another process")
    session.terminate()
    hub.close()
    server.kill()


if __name__ == "__main__":
    main()
