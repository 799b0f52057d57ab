"""Random bytes as input for the pure modules and for a running worker.

All randomness comes from a seed, which is printed when a test fails. To repeat a
run, set ``SYNCWS_SEED`` to that seed. ``python -m tests.fuzz`` runs longer and is
guided by the code that its inputs reach.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..fuzz.targets import TARGETS
from ..support import faults
from ..support.clients import Bystander, handshake
from ..support.pairs import PATIENCE, frame
from ..support.processes import resident_bytes
from ..support.servers import Server, gunicorn, status_when
from .test_hostile import GROWTH
from .test_load import worker_pid

#: How many connections are made to the worker, and how many seconds they may take.
ATTEMPTS, SECONDS = 300, 15.0

ROUTES = ["/echo", "/limited", "/compressed", "/sends", "/returns", "/sleeps/0.01", "/pings"]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_target(target: Callable[[bytes], None], data: bytes) -> None:
    target(data)


# A running worker


def mutate(chance: random.Random, data: bytes) -> bytes:
    """Change, insert, remove, repeat, or cut off some of the bytes."""
    mutated = bytearray(data)
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        at = chance.randrange(len(mutated) + 1)
        size = chance.choice([1, 1, 4, 20])
        kind = chance.randrange(5)
        if kind == 0:
            mutated[at : at + size] = chance.randbytes(size)
        elif kind == 1:
            mutated[at:at] = chance.randbytes(size)
        elif kind == 2:
            del mutated[at : at + size]
        elif kind == 3:
            mutated[at:at] = mutated[at : at + size] * chance.choice([1, 50])
        else:
            del mutated[at:]
    return bytes(mutated)


def a_stream(chance: random.Random) -> bytes:
    """A stream of frames, most of which are valid."""
    stream = []
    for _ in range(chance.randrange(8)):
        payload = chance.choice(
            [
                b"",
                b"text",
                "héllo".encode(),
                b"\x03\xe8bye",
                chance.randbytes(chance.randrange(300)),
            ]
        )
        stream.append(
            frame(
                chance.choice([1, 1, 2, 0, 8, 9, 10, chance.randrange(16)]),
                payload,
                fin=chance.random() < 0.7,
                rsv=chance.choice([0, 0, 0, 4, chance.randrange(8)]),
            )
        )
    return b"".join(stream)


def attack(chance: random.Random, port: int) -> None:
    """Make one connection: a handshake, frames and an end, each of them valid or not."""
    extra = chance.sample(
        [
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            "Sec-WebSocket-Protocol: v1, v2",
            "Origin: http://localhost",
            "Content-Length: 5",
        ],
        chance.choice([0, 0, 1, 2]),
    )
    opening = handshake(chance.choice(ROUTES), "localhost", *extra)
    if chance.random() < 0.4:
        opening = mutate(chance, opening)
    stream = mutate(chance, a_stream(chance))
    with (
        # The worker may end the connection at any moment, or wait for more bytes.
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as sock,
    ):
        if chance.random() < 0.5:
            sock.sendall(opening + stream)
        else:
            sock.sendall(opening)
            for part in faults.splits(stream, *chance.choices(range(1000), k=3)):
                sock.sendall(part)
        end = chance.choice(["close", "reset", "end of file", "listen"])
        if end == "reset":
            faults.reset(sock)
        elif end == "end of file":
            faults.end_of_file(sock)
        if end in ("end of file", "listen"):
            sock.settimeout(0.02)
            for _ in range(3):
                sock.recv(65536)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn("tests.support.app:app", "--threads=4") as running:
        yield running
        running.stop()
        assert "Traceback" not in running.output
        assert "[ERROR]" not in running.output


def test_running_worker(server: Server) -> None:
    seed = int(os.environ.get("SYNCWS_SEED") or random.randrange(1 << 32))
    print(f"again with SYNCWS_SEED={seed}")
    pid = worker_pid(server)
    before = resident_bytes(pid)
    deadline = time.monotonic() + SECONDS
    with Bystander(server.port):
        for number in range(ATTEMPTS):
            if time.monotonic() < deadline:
                attack(random.Random(f"{seed} {number}"), server.port)
        assert resident_bytes(pid) - before < GROWTH
    status = status_when(
        server, lambda status: status["threads"] == 0 and status["connections"] == 1
    )
    assert status["pid"] == pid, "the worker has been replaced"
