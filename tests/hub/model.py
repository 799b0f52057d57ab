"""A model of rooms with a history: several processes, and everything that goes wrong.

    python -m tests.hub.model [--seconds 60] [--seed 1]

Clients join, leave and come back with the id that they had last, in workers that are killed and
started again; messages are sent from all of them; the Redis is killed and comes back empty, is
stopped for a while, and its connections are cut. A checker holds what each client gets against
the numbers in the ids: none missing without ``gap``, none twice, and each in its order.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import redis

from syncws import History, Hub, Joined
from syncws.hub.wire import Position

from ..support.redis_server import RedisServer
from ..support.servers import ROOT
from ..support.sessions import session_with_peer

WORKERS = 3
CLIENTS = 12
ROOM = "model"
END = "END"


# A worker: commands in, events out, each a line of JSON.


class Worker:
    def __init__(self, url: str) -> None:
        self._hub = Hub(url, history=History(messages=300), queue=1000)
        self._lock = threading.Lock()
        self._leave: dict[int, threading.Event] = {}
        self._texts: queue.Queue[str] = queue.Queue()

    def run(self) -> None:
        threading.Thread(target=self._send, daemon=True).start()
        for line in sys.stdin:
            command = json.loads(line)
            client = command.get("client")
            if command["do"] == "join":
                self._leave[client] = threading.Event()
                member = threading.Thread(
                    target=self._member, args=(client, command["after"]), daemon=True
                )
                member.start()
            elif command["do"] == "leave":
                self._leave[client].set()
            else:
                self._texts.put(command["text"])
        os._exit(0)

    def _tell(self, **event: Any) -> None:
        with self._lock:
            print(json.dumps(event), flush=True)

    def _send(self) -> None:
        while True:
            text = self._texts.get()
            self._tell(sent=text, id=self._hub.send_json(ROOM, {"text": text}))

    def _member(self, client: int, after: str | None) -> None:
        session, peer = session_with_peer()
        box: list[Joined] = []

        def read() -> None:
            while (received := peer.receive(3600)) != END:
                message = json.loads(received)
                gap = box[0].gap if box else None
                self._tell(client=client, id=message.get("id"), text=message["text"], gap=gap)
            self._tell(client=client, left=True)

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        joined = self._hub.join(ROOM, session, after=after)
        box.append(joined)
        self._tell(client=client, joined=True, gap=joined.gap, last=joined.last_id)
        self._leave[client].wait()
        joined.leave()
        session.send(END)
        reading.join()
        session.terminate()
        peer.close_socket()


# The other side


@dataclass
class Client:
    """What the checker knows of a client, over all of its sessions."""

    number: int
    worker: int | None = None
    last: Position | None = None
    #: Messages that came before the join had returned, and told whether there is a gap.
    early: list[dict[str, Any]] | None = None
    gap: bool = False
    seen: set[str] = field(default_factory=set)


class Model:
    def __init__(self, seed: int, server: RedisServer) -> None:
        self.random = random.Random(seed)
        self.server = server
        self.clients = [Client(number) for number in range(CLIENTS)]
        self.figures: Counter[str] = Counter()
        #: The stream of record: the text of each id.
        self.record: dict[str, str] = {}
        # Guards the above against the threads that read the workers.
        self._lock = threading.Lock()
        self._faults: list[str] = []
        self._texts = 0
        self.workers: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        for number in range(WORKERS):
            self._start(number)

    def _start(self, number: int) -> None:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.model", "--worker", self.server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        reader = threading.Thread(target=self._read, args=(worker,), daemon=True)
        reader.start()
        self.workers[number : number + 1] = [worker]
        self._readers[number : number + 1] = [reader]

    def _command(self, number: int, **command: Any) -> None:
        pipe = self.workers[number].stdin
        assert pipe is not None
        pipe.write(json.dumps(command) + "\n")
        pipe.flush()

    def _read(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.endswith("}\n"):
                with self._lock:
                    self._event(json.loads(line))

    # The checker

    def _event(self, event: dict[str, Any]) -> None:
        if "sent" in event:
            self.figures["sent"] += 1
            if event["id"] is not None:
                self._note(event["id"], event["sent"])
            return
        client = self.clients[event["client"]]
        if "left" in event:
            client.worker = None
        elif "joined" in event:
            client.gap = client.gap or event["gap"]
            early, client.early = client.early or [], None
            self.figures["joins"] += 1
            self.figures["gaps"] += bool(event["gap"])
            for each in early:
                self._got(client, each)
            if client.last is None:
                client.last = Position.parse(event["last"])
        elif client.early is not None:
            client.early.append(event)
        else:
            client.gap = client.gap or bool(event["gap"])
            self._got(client, event)

    def _note(self, id: str, text: str) -> None:
        if self.record.setdefault(id, text) != text:
            self._faults.append(f"{id} is {text!r} and {self.record[id]!r}")

    def _got(self, client: Client, event: dict[str, Any]) -> None:
        position = Position.parse(event["id"])
        if position is None:
            self.figures["without an id"] += 1
            return
        self.figures["received"] += 1
        self._note(event["id"], event["text"])
        before, client.last = client.last, position
        if event["id"] in client.seen:
            self._faults.append(f"client {client.number} got {event['id']} twice")
        client.seen.add(event["id"])
        if before is None or before.epoch != position.epoch:
            if before is not None and not client.gap and position.number != 1:
                self._faults.append(f"client {client.number}: {before} and {position}, no gap")
        elif position.number <= before.number:
            self._faults.append(f"client {client.number}: {before} before {position}")
        elif position.number != before.number + 1 and not client.gap:
            self._faults.append(f"client {client.number}: {before}, {position}, and no gap")

    # What happens

    def join(self, client: Client) -> None:
        with self._lock:
            client.worker = self.random.randrange(WORKERS)
            client.early, client.gap = [], False
            after = client.last.id if client.last is not None else None
        self._command(client.worker, do="join", client=client.number, after=after)

    def step(self) -> None:
        client = self.random.choice(self.clients)
        what = self.random.random()
        if what < 0.2:
            if client.worker is None:
                self.join(client)
            elif client.early is None and what < 0.05:
                self._leave(client)
        elif what < 0.2015:
            self.kill_worker(self.random.randrange(WORKERS))
        elif what < 0.204:
            self._cut()
        elif what < 0.2047:
            self.server.kill()
            sleep(self.random.random() / 2)
            self.server.start()
            self.figures["kills of Redis"] += 1
        elif what < 0.2055:
            self.server.hang()
            sleep(self.random.random() / 2)
            self.server.go_on()
            self.figures["stops of Redis"] += 1
        else:
            self._texts += 1
            self._command(self.random.randrange(WORKERS), do="send", text=str(self._texts))

    def _leave(self, client: Client) -> None:
        assert client.worker is not None
        worker, client.early = client.worker, None
        self._command(worker, do="leave", client=client.number)
        deadline = monotonic() + 30
        while client.worker is not None:
            assert monotonic() < deadline, f"client {client.number} does not leave"
            sleep(0.001)

    def _cut(self) -> None:
        self.figures["cut connections"] += 1
        with redis.Redis.from_url(self.server.url) as client:
            plain: Any = client
            plain.execute_command(
                "CLIENT", "KILL", "TYPE", self.random.choice(["pubsub", "normal"])
            )

    def kill_worker(self, number: int) -> None:
        self.figures["kills of a worker"] += 1
        worker, reader = self.workers[number], self._readers[number]
        worker.kill()
        worker.wait()
        reader.join()
        for pipe in (worker.stdin, worker.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # a command was on its way
                pipe.close()
        for client in self.clients:
            if client.worker == number:
                # What it got before it knew of a gap: it comes back with the id from before.
                client.worker = client.early = None
        self._start(number)

    def check(self) -> None:
        with self._lock:
            assert not self._faults, "\n".join(self._faults[:10])

    def finish(self) -> None:
        """All come back, and get everything that was said up to the last word."""
        for client in self.clients:
            if client.worker is None:
                self.join(client)
        deadline = monotonic() + 60
        number = 0
        while True:
            number += 1
            self._command(number % WORKERS, do="send", text=f"last word {number}")
            sleep(0.3)
            self.check()
            with self._lock:
                ends = {client.last for client in self.clients if client.early is None}
                joining = any(client.early is not None for client in self.clients)
            if not joining and len(ends) == 1 and None not in ends:
                return
            assert monotonic() < deadline, f"they do not come together: {ends}"

    def close(self) -> None:
        for number in range(WORKERS):
            worker, reader = self.workers[number], self._readers[number]
            worker.kill()
            worker.wait()
            reader.join()
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.close()
            worker.stdout.close()


def run(seconds: float, seed: int) -> Counter[str]:
    """Raises ``AssertionError`` for the first promise that is broken."""
    server = RedisServer()
    model = Model(seed, server)
    try:
        over = monotonic() + seconds
        while monotonic() < over:
            model.step()
            model.check()
            sleep(0.002)
        model.finish()
        return model.figures
    finally:
        model.close()
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub.model")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--worker")
    arguments = parser.parse_args()
    if arguments.worker:
        Worker(arguments.worker).run()
        return
    print(f"seed {arguments.seed}", flush=True)
    figures = run(arguments.seconds, arguments.seed)
    print(", ".join(f"{number:,} {what}" for what, number in sorted(figures.items())))


if __name__ == "__main__":
    main()
