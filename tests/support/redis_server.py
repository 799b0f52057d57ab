"""A Redis server for the tests: the installed ``redis-server``, on a free port.

``SYNCWS_TEST_REDIS=valkey-server`` runs all tests with Valkey.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import weakref
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic, sleep

import pytest
import redis

from .pairs import PATIENCE

#: The program that the tests run.
PROGRAM = os.environ.get("SYNCWS_TEST_REDIS", "redis-server")


def _free_port() -> int:
    """A port that no outgoing connection gets from the system, not even while the server is down.

    A node of a cluster needs the port that is higher by 10,000, too.
    """
    while True:
        port = random.randrange(10_240, 22_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class RedisServer:
    """A Redis server that stores no data on disk. It can be killed and started again at the same
    address.

    ``certificate`` holds the paths of a key and of a certificate for localhost: the server then
    speaks TLS only.
    """

    def __init__(
        self,
        *options: str,
        config: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        program: str = PROGRAM,
    ) -> None:
        if shutil.which(program) is None:
            if os.environ.get("SYNCWS_TEST_EVERYTHING"):
                raise RuntimeError(f"{program} is missing: install Debian's package")
            pytest.skip(f"{program} is not installed")
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [program, *([str(config)] if config is not None else [])]
        if certificate is None:
            self._command += [f"--port {self.port}"]
        else:
            key, trusted = certificate
            self.url = f"rediss://localhost:{self.port}/0?ssl_ca_certs={trusted}"
            self._command += ["--port 0", f"--tls-port {self.port}", "--tls-auth-clients no"]
            self._command += [f"--tls-key-file {key}", f"--tls-cert-file {trusted}"]
        self._command += ["--bind 127.0.0.1", *options]
        if config is None:
            # A replica still writes the data from its primary into a file, which any server that
            # starts in that folder later would load.
            folder = mkdtemp()
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._command += ["--save", "", "--appendonly", "no", f"--dir {folder}"]
            self._command += ["--rdb-del-sync-files yes"]
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
                    assert self._process.poll() is None, f"{self._command} has ended"
                    if monotonic() > deadline:
                        self.kill()
                        raise AssertionError(f"{self._command} does not answer") from None
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
