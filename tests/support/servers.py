"""Servers as users run them: in separate processes, with real signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from gunicorn.config import Config

from .pairs import PATIENCE

ROOT = Path(__file__).parents[2]


class Server:
    """A server process. Its output is read while it runs."""

    def __init__(
        self,
        command: list[str],
        listening: str,
        *,
        python: str = sys.executable,
        cwd: str = str(ROOT),
        **env: str,
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-u", *command],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **env},
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.wait_for_line(listening)[1])
        except BaseException:
            self.kill()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait_for_line(self, pattern: str, *, count: int = 1) -> re.Match[str]:
        """Wait until ``count`` lines of the output match. Returns the match of the last one."""

        def matches() -> list[re.Match[str]]:
            return [found for line in self.lines if (found := re.search(pattern, line))]

        with self._news:
            self._news.wait_for(lambda: self._over or len(matches()) >= count, PATIENCE)
            if len(matches()) < count:
                raise AssertionError(
                    f"{pattern!r} is not {count} times in the output:\n" + self.output
                )
            return matches()[count - 1]

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def url(self, path: str = "/", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def get(self, path: str, timeout: float = PATIENCE) -> requests.Response:
        return requests.get(self.url(path, "http"), timeout=timeout)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until the process has ended by itself and all of its output has been read."""
        code = self._process.wait(timeout)
        self._reader.join(PATIENCE)
        return code

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        self.wait()

    def kill(self) -> None:
        """Kill the server and its workers, if the server still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        if error is not None:
            print(self.output)


#: Newer versions of gunicorn open a control socket at one fixed path. Tests that run several
#: servers at once can not share it.
NO_CONTROL_SOCKET = ["--no-control-socket"] if "control_socket_disable" in Config().settings else []


def gunicorn(
    app: str = "tests.support.app:app",
    *arguments: str,
    worker: str = "syncws.worker.WebSocketWorker",
) -> Server:
    """gunicorn with one worker that has started."""
    server = Server(
        [
            "-m",
            "gunicorn",
            "--config=python:tests.support.gunicorn_settings",
            f"--worker-class={worker}",
            "--bind=127.0.0.1:0",
            "--access-logfile=-",
            *NO_CONTROL_SOCKET,
            *arguments,
            app,
        ],
        r"Listening at: https?://127\.0\.0\.1:(\d+)",
    )
    try:
        server.wait_for_line("worker is ready")
    except BaseException:
        server.kill()
        raise
    return server


def werkzeug(app: str = "tests.support.app:app", *arguments: str) -> Server:
    """Flask's development server."""
    return Server(
        ["-m", "flask", "--app", app, "run", "--port=0", *arguments],
        r"Running on https?://127\.0\.0\.1:(\d+)",
        PYTHONDONTWRITEBYTECODE="1",
    )


def status_when(server: Server, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Request the server's status until the condition holds. Returns that status."""
    deadline = time.monotonic() + PATIENCE
    while True:
        status: dict[str, Any] = server.get("/status").json()
        if condition(status):
            return status
        assert time.monotonic() < deadline, status
