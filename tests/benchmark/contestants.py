"""The servers that are measured: how each is started, and what has to be installed for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from ..support.certificates import make_certificate
from ..support.fronts import Nginx
from ..support.servers import NO_CONTROL_SOCKET, ROOT, Server
from .processes import confined_to
from .programs import Client

_WORKER = "syncws.worker.WebSocketWorker"

#: What syncws needs; with websockets it has the C function for masking.
_SYNCWS = ["gunicorn", "wsproto", "websockets"]

_SOCKETIO = ["Flask", "Flask-SocketIO", "python-socketio", "python-engineio", "simple-websocket"]


#: How the client reaches the server: directly, without or with TLS, or over TLS through nginx
#: with the configuration of the documentation.
Way = Literal["plain", "tls", "nginx"]


@dataclass(frozen=True)
class Target:
    """A server that runs."""

    #: Where the client connects to.
    port: int
    #: The server's own, also behind nginx.
    pid: int
    tls: bool = False


@dataclass(frozen=True)
class Contestant:
    """A server, and what it is called in tables."""

    title: str
    #: What Python is to run.
    command: list[str]
    #: What has to be installed, as the report names it with its version.
    packages: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)
    #: The interpreter. It is the one that runs the benchmark, with the source, or another one,
    #: with the syncws that is installed there.
    python: str = sys.executable

    @contextmanager
    def running(self, *cores: int, way: Way = "plain") -> Iterator[Target]:
        """The server in processes of its own on these cores; it has served a session."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            environ = dict(self.environ)
            if way == "tls":
                key, certificate = map(str, make_certificate(folder))
                environ |= {
                    "SYNCWS_BENCHMARK_KEY": key,
                    "SYNCWS_BENCHMARK_CERTIFICATE": certificate,
                }
            with confined_to(*cores):
                server = stack.enter_context(
                    Server(
                        self.command,
                        r"Listening at: https?://127\.0\.0\.1:(\d+)",
                        python=self.python,
                        cwd=str(ROOT if self.python == sys.executable else without_source(folder)),
                        **environ,
                    )
                )
                target = Target(server.port, server.pid, tls=way != "plain")
                if way == "nginx":
                    front = stack.enter_context(Nginx(folder, f"127.0.0.1:{server.port}"))
                    target = replace(target, port=front.port)
            with Client("idle", target.port, "/echo", 1, 32, tls=target.tls) as client:
                client.wait_until_ready()
            yield target

    def missing(self) -> list[str]:
        """Those of the packages that are not installed."""
        missing = []
        for package in self.packages:
            try:
                version(package)
            except PackageNotFoundError:
                missing.append(package)
        return missing


def without_source(folder: Path) -> Path:
    """A folder in which the tests can be imported, and the source of syncws can not."""
    (folder / "tests").symlink_to(ROOT / "tests")
    return folder


_WHICH_PYTHON = """\
import json, platform, sysconfig, syncws, gunicorn
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([platform.python_version(), free, syncws.__compiled__]))
"""


def of_python(python: str) -> Contestant:
    """syncws as it is installed with another Python; ends the program if it is not."""
    found = shutil.which(python)
    if found is None:
        raise SystemExit(f"{python}: no such program.")
    # It is started in another folder than this one.
    python = str(Path(found).absolute())
    with TemporaryDirectory() as folder:
        asked = subprocess.run(
            [python, "-c", _WHICH_PYTHON], cwd=folder, capture_output=True, text=True, check=False
        )
    if asked.returncode != 0:
        raise SystemExit(f"{python}: install syncws[gunicorn,speedups] there.\n{asked.stderr}")
    number, free, compiled = json.loads(asked.stdout)
    title = f"{number}{' without GIL' if free else ''}{', compiled' if compiled else ''}"
    environ = {"PYTHON_GIL": "0"} if free else {}
    return Contestant(title, _gunicorn(_WORKER, 4, "wsgi"), environ=environ, python=python)


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
