"""``python -m syncws connect``, with its input and output in a pipe and on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import syncws
from syncws.__main__ import main

from ..support.pairs import PATIENCE
from ..support.servers import ROOT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def talk(session: syncws.Session) -> None:
    session.send("welcome\x1b[2J\n")
    for message in session:
        if message == "bytes":
            session.send(b"\x00\xff")
        elif message == "long":
            session.send("x" * 100_000)
        elif message == "bye":
            session.close(4000, "as you\twish")
        else:
            session.send(f"echo {message!r}")


@pytest.fixture
def server() -> Iterator[syncws.Server]:
    with syncws.serve(talk, "127.0.0.1") as running:
        yield running


def command(server: syncws.Server) -> list[str]:
    return [sys.executable, "-m", "syncws", "connect", f"ws://127.0.0.1:{server.port}/"]


def piped(server: syncws.Server, text: str, **environment: str) -> list[str]:
    done = subprocess.run(
        command(server),
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_piped(server: syncws.Server) -> None:
    assert piped(server, "héllo\nbytes\r\n\nno end of line") == [
        "Connected; Ctrl-D ends it.",
        "< welcome\\x1b[2J\\n",
        "< echo 'héllo'",
        "< (binary) 00ff",
        "< echo ''",
        "< echo 'no end of line'",
        "Connection closed: this side closed the session (code 1000).",
    ]


def test_what_the_output_can_not_express_is_escaped(server: syncws.Server) -> None:
    lines = piped(server, "héllo\n", PYTHONIOENCODING="ascii")
    assert lines[2] == r"< echo 'h\xe9llo'"


def test_who_reads_the_output_has_enough(server: syncws.Server) -> None:
    done = subprocess.run(
        ["sh", "-c", f"yes | {shlex.join(command(server))} | head -3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.endswith("< echo 'y'\n")
    assert "Traceback" not in done.stderr


def test_without_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit, match="one is closed"):
        main(["connect", "ws://127.0.0.1:1/"])


def test_a_long_message_is_cut(server: syncws.Server) -> None:
    (line,) = (line for line in piped(server, "long\n") if line.startswith("< x"))
    assert line == "< " + "x" * 10_000 + "… (100000 in all)"


class Terminal:
    """A process on a terminal of its own; what it writes, as it comes."""

    def __init__(self, arguments: list[str]) -> None:
        self._fd, theirs = pty.openpty()
        self.process = subprocess.Popen(
            arguments, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.output = ""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.output, re.DOTALL):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not in {self.output!r}"
            if select.select([self._fd], [], [], left)[0]:
                self._read(pattern)

    def _read(self, pattern: str) -> None:
        try:
            self.output += os.read(self._fd, 65536).decode()
        except OSError:  # the process has ended
            raise AssertionError(f"{pattern!r} is not in {self.output!r}") from None

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)


@pytest.fixture
def terminal(server: syncws.Server) -> Iterator[Terminal]:
    with contextlib.closing(Terminal(command(server))) as running:
        yield running


def test_what_is_being_typed_stays_when_a_message_comes(terminal: Terminal) -> None:
    # The prompt may come first: then a message is put above it.
    terminal.wait_for("Connected.*> ")
    above = "\x1b7\r\n\x1b[A\x1b[L< welcome\\x1b[2J\\n\r\n\x1b8\x1b[B"
    terminal.wait_for(re.escape(above))
    terminal.type("one\ntw")
    terminal.wait_for(r"< echo 'one'")
    terminal.type("o\n")
    terminal.wait_for(r"< echo 'two'")


def test_ctrl_d_closes_with_1000(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("\x04")
    terminal.wait_for(r"\r\x1b\[KConnection closed: this side closed the session \(code 1000\)\.")
    assert terminal.process.wait(PATIENCE) == 0


def test_the_server_closes(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.type("bye\n")
    terminal.wait_for(
        r"Connection closed: the peer closed the session \(code 4000: as you\\twish\)"
    )
    assert terminal.process.wait(PATIENCE) == 0


def test_ctrl_c_closes(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for(r"Connection closed: this side closed the session \(code 1000\)")
    assert terminal.process.wait(PATIENCE) == 0
    assert "Traceback" not in terminal.output


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1/", "can not connect: the URL begins with ws:// or wss://"),
        ("ws://127.0.0.1:1/", "can not connect: .*refused"),
    ],
)
def test_no_connection(url: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["connect", url])


def test_refusal() -> None:
    def not_here(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("404 Not Found", [("Content-Length", "4")])
        return [b"none"]

    with (
        syncws.serve(not_here, "127.0.0.1") as server,
        pytest.raises(SystemExit, match=r"can not connect: .* status 404 .* 'none'"),
    ):
        main(["connect", f"ws://127.0.0.1:{server.port}/"])
