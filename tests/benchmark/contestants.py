"""The servers that are measured: how each is started, and what has to be installed for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from ..support.servers import NO_CONTROL_SOCKET, Server
from .processes import confined_to
from .programs import Client

_WORKER = "syncws.worker.WebSocketWorker"

#: What syncws needs; with websockets it has the C function for masking.
_SYNCWS = ["gunicorn", "wsproto", "websockets"]

_SOCKETIO = ["Flask", "Flask-SocketIO", "python-socketio", "python-engineio", "simple-websocket"]


@dataclass(frozen=True)
class Contestant:
    """A server, and what it is called in tables."""

    title: str
    #: What Python is to run.
    command: list[str]
    #: What has to be installed, as the report names it with its version.
    packages: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    #: The interpreter.
    python: str = sys.executable

    @contextmanager
    def running(self, core: int) -> Iterator[Server]:
        """The server in processes of its own on one core; it has served a session."""
        with confined_to(core):
            server = Server(
                self.command,
                r"Listening at: http://127\.0\.0\.1:(\d+)",
                python=self.python,
                **self.environ,
            )
        with server:
            with Client("idle", server.port, "/echo", 1, 32) as client:
                client.wait_until_ready()
            yield server

    def missing(self) -> list[str]:
        """Those of the packages that are not installed."""
        missing = []
        for package in self.packages:
            try:
                version(package)
            except PackageNotFoundError:
                missing.append(package)
        return missing


def _gunicorn(worker: str, threads: int, app: str) -> list[str]:
    return [
        "-m",
        "gunicorn",
        "--config=python:tests.benchmark.apps.gunicorn_settings",
        *NO_CONTROL_SOCKET,
        f"--worker-class={worker}",
        f"--threads={threads}",
        f"tests.benchmark.apps.{app}:app",
    ]


#: By the names that the command line takes.
CONTESTANTS = {
    "syncws": Contestant("syncws", _gunicorn(_WORKER, 4, "wsgi"), _SYNCWS),
    "syncws-without-speedups": Contestant(
        "syncws without speedups",
        _gunicorn(_WORKER, 4, "wsgi"),
        _SYNCWS,
        {"SYNCWS_BENCHMARK_WITHOUT_SPEEDUPS": "1"},
    ),
    "syncws-flask": Contestant(
        "syncws with Flask", _gunicorn(_WORKER, 4, "flask_syncws"), [*_SYNCWS, "Flask"]
    ),
    # A session of flask-sock's holds a thread of the pool: enough for all of them.
    "flask-sock": Contestant(
        "flask-sock",
        _gunicorn("gthread", 1100, "flask_sock"),
        ["flask-sock", "simple-websocket", "Flask", "gunicorn", "wsproto"],
    ),
    "websockets": Contestant(
        "websockets", ["-m", "tests.benchmark.apps.websockets_threads"], ["websockets"]
    ),
    "uvicorn": Contestant(
        "uvicorn", ["-m", "tests.benchmark.apps.uvicorn_websockets"], ["uvicorn", "websockets"]
    ),
    "picows": Contestant("picows", ["-m", "tests.benchmark.apps.picows_asyncio"], ["picows"]),
    "websockets-asyncio": Contestant(
        "websockets, asyncio", ["-m", "tests.benchmark.apps.websockets_asyncio"], ["websockets"]
    ),
    "bare-echo": Contestant("bare loop", ["-m", "tests.benchmark.apps.bare_echo"]),
    "granian": Contestant("granian", ["-m", "tests.benchmark.apps.granian_asgi"], ["granian"]),
    "gunicorn-asgi": Contestant(
        "gunicorn's ASGI worker", _gunicorn("asgi", 1, "uvicorn_websockets"), ["gunicorn"]
    ),
    "bare-loop": Contestant("bare loop", _gunicorn(_WORKER, 4, "bare_loop"), _SYNCWS),
    "flask-socketio": Contestant(
        "Flask-SocketIO on syncws",
        _gunicorn("syncws.compat.Worker", 8, "flask_socketio"),
        [*_SYNCWS, *_SOCKETIO],
    ),
    "flask-socketio-gthread": Contestant(
        "Flask-SocketIO on gthread",
        _gunicorn("gthread", 8, "flask_socketio"),
        ["gunicorn", "wsproto", *_SOCKETIO],
    ),
    "gthread": Contestant("gthread", _gunicorn("gthread", 4, "wsgi"), _SYNCWS),
    "ceiling": Contestant("ceiling", ["-m", "tests.benchmark.apps.ceiling"]),
}
