"""The programs that drive the servers. Those in C are compiled when they are needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from ..support.servers import ROOT

SOURCES = Path(__file__).with_name("client")
COMPILED = ROOT / ".benchmark"


#: What a program is compiled with besides.
_ZLIB, _TLS = ["-lz"], ["-DTLS", "-lssl", "-lcrypto"]


def build(name: str, *, tls: bool = False) -> Path:
    """The program that is made of ``client/<name>.c``, compiled unless it is there already."""
    program = COMPILED / (f"{name}-tls" if tls else name)
    source = SOURCES / f"{name}.c"
    newest = max(path.stat().st_mtime for path in (source, SOURCES / "common.h"))
    if not program.exists() or program.stat().st_mtime < newest:
        compiler = shutil.which("gcc")
        if compiler is None:
            raise SystemExit("The benchmark's client is written in C: install gcc.")
        COMPILED.mkdir(exist_ok=True)
        warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
        more = [*(_ZLIB if name == "deflate" else []), *(_TLS if tls else [])]
        command = [compiler, "-std=c11", "-O2", *warnings, "-o", str(program), str(source), *more]
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit("On Debian, the client needs gcc, libssl-dev and zlib1g-dev.")
    return program


class ClientError(Exception):
    """The server did not do what it was asked for; the text says what it did instead."""


class Client:
    """A client that runs; a context manager, at whose end it does no more."""

    def __init__(self, name: str, *arguments: object, tls: bool = False) -> None:
        if (SOURCES / f"{name}.py").exists():
            command = [sys.executable, "-m", f"tests.benchmark.client.{name}"]
        else:
            command = [str(build(name, tls=tls))]
        self._process = subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Wait for the measurement to begin, or for the sessions to be there."""
        assert self._process.stdout is not None
        # The client gives up by itself when the server is silent.
        if self._process.stdout.readline() != "ready\n":
            self.finish()
            raise AssertionError("the client ended without having begun")

    def measured(self) -> dict[str, float]:
        """What it has measured. Its connections are still open."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.finish()
            raise AssertionError("the client ended without a result")
        result: dict[str, float] = json.loads(line)
        return result

    def finish(self) -> dict[str, float]:
        """What it has measured; one that waits is told to end."""
        output, errors = self._process.communicate()
        if self._process.returncode != 0:
            raise ClientError(errors.strip())
        result: dict[str, float] = json.loads(output)
        return result

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
