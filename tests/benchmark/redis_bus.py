"""What the hub's bus costs: two processes and a Redis of their own.

    python -m tests.benchmark.redis_bus [--messages 20000]

One process sends to a room, the other has a member in it; with and without a history. Then what
it costs to join a room after having missed 500 messages, and to ask for 1,000 members.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

from syncws import History, Hub

from ..support.redis_server import RedisServer
from ..support.sessions import session_with_peer

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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.redis_bus")
    parser.add_argument("--messages", type=int, default=20_000)
    messages = parser.parse_args().messages
    server = RedisServer()
    for kept in (False, True):
        print("with a history" if kept else "without a history")
        messages_over(server, messages, kept=kept)
    join_after_missing(server)
    ask_for_members(server)
    server.kill()


def messages_over(server: RedisServer, messages: int, *, kept: bool) -> None:
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
        print(
            f"  latency, median: {statistics.median(near) * 1e6:.0f} µs in one process, "
            f"{statistics.median(far) * 1e6:.0f} µs from another one, over Redis"
        )
        print(file=sender.stdin, flush=True)
        started = time.perf_counter()
        for _ in range(messages):
            peer.receive()
        rate = messages / (time.perf_counter() - started)
        print(f"  {rate:,.0f} messages/s from another process")
    session.terminate()
    peer.close_socket()
    hub.close()


def join_after_missing(server: RedisServer) -> None:
    hub = Hub(server.url, queue=QUEUE, history=History(messages=1000))
    first = hub.send_json("missed", {"text": "x" * SIZE})
    for _ in range(MISSED):
        hub.send_json("missed", {"text": "x" * SIZE})
    for after, what in ((None, "nothing missed"), (first, f"{MISSED} messages missed")):
        took = []
        for _ in range(TIMES):
            session, peer = session_with_peer()
            started = time.perf_counter()
            with hub.join("missed", session, after=after):
                for _ in range(MISSED if after else 0):
                    peer.receive()
                took.append(time.perf_counter() - started)
            session.terminate()
            peer.close_socket()
        print(f"join, {what}: {statistics.median(took) * 1e3:.2f} ms")
    hub.close()


def ask_for_members(server: RedisServer) -> None:
    hub = Hub(server.url)
    session, peer = session_with_peer()
    with ExitStack() as joined:
        started = time.perf_counter()
        for number in range(MEMBERS):
            joined.enter_context(
                hub.join("members", session, member=number, info={"name": f"member {number}"})
            )
        joins = time.perf_counter() - started
        took = []
        for _ in range(TIMES):
            started = time.perf_counter()
            assert len(hub.presence("members")) == MEMBERS
            took.append(time.perf_counter() - started)
        print(f"join with a name: {joins / MEMBERS * 1e3:.2f} ms each, one after the other")
        print(f"presence of {MEMBERS:,} members: {statistics.median(took) * 1e3:.2f} ms")
    session.terminate()
    peer.close_socket()
    hub.close()


if __name__ == "__main__":
    main()
