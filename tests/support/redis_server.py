"""A Redis server for the tests: the installed ``redis-server``, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from tempfile import gettempdir
from time import monotonic, sleep

import pytest
import redis

from .pairs import PATIENCE


class RedisServer:
    """A Redis server that stores no data on disk. It can be killed and started again at the same
    address."""

    def __init__(self, *options: str, config: Path | None = None) -> None:
        if shutil.which("redis-server") is None:
            if os.environ.get("SYNCWS_TEST_EVERYTHING"):
                raise RuntimeError("redis-server is missing: install Debian's package")
            pytest.skip("redis-server is not installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = ["redis-server", *([str(config)] if config is not None else [])]
        self._command += [f"--port {self.port}", "--bind 127.0.0.1", *options]
        if config is None:
            # A replica still writes the data from its primary into a file.
            self._command += ["--save", "", "--appendonly", "no", f"--dir {gettempdir()}"]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = monotonic() + PATIENCE
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert monotonic() < deadline, "redis-server does not start"
                    sleep(0.01)

    def hang(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
