"""The cases: what is done to a server, and what of it is compared with whom.

A further case is an entry in CASES; a further kind of load is a program in ``client/`` and a
function here that runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .contestants import Target, Way
from .processes import Use, confined_to, memory_bytes
from .programs import Client

#: What one run of a case has measured, by name: "rate", "p99_us", "client_busy" and so on
Sample = dict[str, float]

#: Given the server, the core for the client, and how many seconds to measure.
Measure = Callable[[Target, int, float], Sample]

#: Seconds; what is begun when a session opens is over by then.
SETTLING = 2.0


@dataclass(frozen=True)
class Metric:
    """One of the things a case measures."""

    key: str
    title: str
    less_is_better: bool = False


@dataclass(frozen=True)
class Case:
    #: A key of QUESTIONS.
    question: str
    title: str
    measure: Measure
    metrics: list[Metric]
    rivals: list[str]
    #: Whose figure is divided by those of the rivals.
    subject: str = "syncws"
    way: Way = "plain"
    #: Whether the server has the client's core too.
    every_core: bool = False

    @property
    def servers(self) -> list[str]:
        return [self.subject, *self.rivals]


def _drive(server: Target, core: int, program: str, *arguments: object) -> Sample:
    """Run a client that measures a rate; adds how busy it and the server have been, from 0 to 1."""
    with confined_to(core):
        client = Client(program, server.port, *arguments, tls=server.tls)
    return _measured(client, server)


def _measured(client: Client, server: Target) -> Sample:
    with client:
        client.wait_until_ready()
        before = Use.of(server.pid)
        sample = client.measured()
        used = Use.of(server.pid).since(before)
        sample["server_busy"] = (used.user + used.system) / sample["wall_s"]
        sample["client_busy"] = sample["cpu_s"] / sample["wall_s"]
        messages = sample["rate"] * sample["wall_s"]
        sample["user_us"] = used.user / messages * 1e6
        sample["system_us"] = used.system / messages * 1e6
        sample["switches"] = used.switches / messages
        return sample


def echo(connections: int, size: int, depth: int = 1, path: str = "/echo") -> Measure:
    """Connections that each keep ``depth`` messages of ``size`` bytes in flight."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        return _drive(server, core, "echo", path, connections, seconds, size, depth)

    return measure


def compressed(connections: int, size: int) -> Measure:
    """Connections that each keep one compressed message in flight: JSON of ``size`` bytes."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        return _drive(server, core, "deflate", "/echo", connections, seconds, size)

    return measure


def sessions(slots: int) -> Measure:
    """Sessions that open, echo once and close, ``slots`` at a time."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        return _drive(server, core, "sessions", "/echo", slots, seconds, 32)

    return measure


def http(connections: int) -> Measure:
    """GET requests on connections that are kept alive."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        return _drive(server, core, "http", "/", connections, seconds)

    return measure


def fanout(members: int, size: int, stalled: int = 0) -> Measure:
    """A room whose members all get what one of them sends; ``stalled`` more never read."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        sample = _drive(server, core, "fanout", "/broadcast", members, seconds, size, stalled)
        sample["rate"] *= members
        return sample

    return measure


def idle(count: int) -> Measure:
    """Sessions that have echoed once and then do nothing: what each of them takes."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        before = memory_bytes(server.pid)
        with confined_to(core):
            client = Client("idle", server.port, "/echo", count, 32)
        with client:
            client.wait_until_ready()
            time.sleep(SETTLING)
            grown = memory_bytes(server.pid) - before
            client.finish()
        return {"memory_kib": grown / count / 1024}

    return measure


def socketio_events(clients: int, depth: int) -> Measure:
    """Socket.IO clients that each keep ``depth`` events in flight, which are answered."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        with confined_to(core):
            client = Client("socketio", "events", server.port, clients, seconds, depth)
        return _measured(client, server)

    return measure


def socketio_fit(most: int) -> Measure:
    """How many Socket.IO clients a server takes while it answers HTTP; up to ``most``."""

    def measure(server: Target, core: int, seconds: float) -> Sample:
        with confined_to(core):
            client = Client("socketio", "fit", server.port, most)
        with client:
            client.wait_until_ready()
            return client.finish()

    return measure


_RATE = Metric("rate", "messages/s")
_P99 = Metric("p99_us", "p99 of a round trip, µs", less_is_better=True)
_SESSIONS = Metric("rate", "sessions/s")
_MEMORY = Metric("memory_kib", "KiB a session", less_is_better=True)
_FANOUT = [
    Metric("rate", "deliveries/s"),
    Metric("p99_us", "p99 of a whole fan-out, µs", less_is_better=True),
]
_ALL = ["flask-sock", "websockets", "uvicorn", "picows"]
_SMALL = [*_ALL, "bare-echo"]
_ASGI = ["granian", "gunicorn-asgi"]

#: Each has a chart and a table of its own.
QUESTIONS = {
    "small": "How many small messages?",
    "large": "How fast are large messages?",
    "sessions": "How many sessions open and close in a second?",
    "broadcast": "How fast is a broadcast?",
    "memory": "How much memory does an idle session take?",
    "tls": "How many small messages, over TLS?",
    "compression": "How many messages, compressed?",
    "nginx": "How many small messages, behind nginx?",
    "socketio": "What does Flask-SocketIO gain?",
    "http": "What does plain HTTP cost?",
    "pythons": "How do Pythons differ?",
}

#: Of what a message costs the server there is a table.
COSTS = ["small", "tls", "compression", "nginx", "pythons"]

#: By the names that the command line takes.
CASES = {
    "1x32": Case("small", "echo, 1 connection, 32 B", echo(1, 32), [_RATE], [*_SMALL, "ceiling"]),
    "100x32": Case(
        "small", "echo, 100 connections, 32 B", echo(100, 32), [_RATE], [*_SMALL, *_ASGI, "ceiling"]
    ),
    "100x16x32": Case(
        "small",
        "echo, 100 connections, 16 in flight, 32 B",
        echo(100, 32, depth=16),
        [_RATE, _P99],
        [*_SMALL, *_ASGI, "ceiling"],
    ),
    "1x64k": Case(
        "large", "echo, 1 connection, 64 KiB", echo(1, 65536), [_RATE], [*_ALL, "ceiling"]
    ),
    "1x1m": Case(
        "large", "echo, 1 connection, 1 MiB", echo(1, 1 << 20), [_RATE], [*_ALL, "ceiling"]
    ),
    "1x64k-without-speedups": Case(
        "large",
        "echo, 1 connection, 64 KiB, without speedups",
        echo(1, 65536),
        [_RATE],
        ["flask-sock"],
        subject="syncws-without-speedups",
    ),
    "1x1m-without-speedups": Case(
        "large",
        "echo, 1 connection, 1 MiB, without speedups",
        echo(1, 1 << 20),
        [_RATE],
        ["flask-sock"],
        subject="syncws-without-speedups",
    ),
    "sessions": Case(
        "sessions",
        "open, echo once, close, 8 at a time",
        sessions(8),
        [_SESSIONS],
        [*_ALL, "ceiling"],
    ),
    "sessions-flask": Case(
        "sessions",
        "open, echo once, close, 8 at a time, both with Flask",
        sessions(8),
        [_SESSIONS],
        ["flask-sock"],
        subject="syncws-flask",
    ),
    "broadcast": Case(
        "broadcast",
        "broadcast to 500 members, 64 B",
        fanout(500, 64),
        _FANOUT,
        ["flask-sock", "websockets-asyncio", "picows", "bare-loop"],
    ),
    "broadcast-stalled": Case(
        "broadcast",
        "broadcast to 500 members, 64 B, beside one that never reads",
        fanout(500, 64, stalled=1),
        _FANOUT,
        ["bare-loop"],
    ),
    "memory": Case("memory", "1,000 idle sessions", idle(1000), [_MEMORY], _ALL),
    "memory-flask": Case(
        "memory",
        "1,000 idle sessions, both with Flask",
        idle(1000),
        [_MEMORY],
        ["flask-sock"],
        subject="syncws-flask",
    ),
    "tls": Case(
        "tls",
        "echo over TLS, 100 connections, 32 B",
        echo(100, 32),
        [_RATE],
        [*_ALL, *_ASGI],
        way="tls",
    ),
    "compression": Case(
        "compression",
        "echo of compressed JSON, 100 connections, 1 KiB",
        compressed(100, 1024),
        [_RATE],
        ["flask-sock", "websockets", "uvicorn"],
    ),
    "nginx": Case(
        "nginx",
        "echo behind nginx, 100 connections, 32 B",
        echo(100, 32),
        [_RATE],
        [*_ALL, *_ASGI],
        way="nginx",
    ),
    "socketio": Case(
        "socketio",
        "Flask-SocketIO with 8 threads: 6 clients, 16 events in flight",
        socketio_events(6, 16),
        [Metric("rate", "events/s")],
        ["flask-socketio-gthread"],
        subject="flask-socketio",
    ),
    "socketio-fit": Case(
        "socketio",
        "Flask-SocketIO with 8 threads: clients, up to 500, beside which HTTP is answered",
        socketio_fit(500),
        [Metric("clients", "clients")],
        ["flask-socketio-gthread"],
        subject="flask-socketio",
    ),
    "http": Case(
        "http",
        "plain HTTP, 4 connections kept alive",
        http(4),
        [Metric("rate", "requests/s")],
        ["gthread", "ceiling"],
    ),
    # Their rivals are the interpreters of the option --pythons.
    "pythons-100x32": Case("pythons", "echo, 100 connections, 32 B", echo(100, 32), [_RATE], []),
    "pythons-100x16x32": Case(
        "pythons",
        "echo, 100 connections, 16 in flight, 32 B",
        echo(100, 32, depth=16),
        [_RATE],
        [],
    ),
    "pythons-computing": Case(
        "pythons",
        "handlers that compute, 8 connections, every core",
        echo(8, 32, path="/compute"),
        [_RATE],
        [],
        every_core=True,
    ),
}
