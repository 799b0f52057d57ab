"""``python -m syncws connect``, with its input and output in a pipe and on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    assert terminal.process.wait(PATIENCE) == 3


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


# Options


def run(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "syncws", *arguments],
        cwd=ROOT,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_what_the_request_has(server: syncws.Server) -> None:
    def tell(session: syncws.Session) -> None:
        for name in ["HTTP_X_ONE", "HTTP_X_TWO", "HTTP_ORIGIN", "HTTP_COOKIE"]:
            session.send(session.environ[name])
        session.send(session.subprotocol or "")

    application = syncws.websocket(tell, origins="*", subprotocols=["b"])
    with syncws.serve(application, "127.0.0.1") as telling:
        url = f"ws://127.0.0.1:{telling.port}/"
        options = ["-H", "X-One: 1", "--header", "X-Two:2", "--origin", "https://example.com"]
        options += ["--cookie", "a=1", "--cookie", "b=2", "--subprotocol", "a"]
        done = run(["connect", url, *options, "--subprotocol", "b", "--json"])
    opened, *messages, closed_ = events(done.stdout)
    assert opened == {"event": "open", "subprotocol": "b"}
    assert [each["data"] for each in messages] == ["1", "2", "https://example.com", "a=1; b=2", "b"]
    assert (closed_["event"], closed_["code"]) == ("close", 1000)
    assert done.returncode == 0


def test_json(server: syncws.Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/"
    process = subprocess.Popen(
        [sys.executable, "-m", "syncws", "connect", "--json", url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:  # the input stays open, so the server is the one that closes
        process.stdin.write("bytes\nbye\n")
        process.stdin.flush()
        shown = events(process.stdout.read())
    assert shown == [
        {"event": "open", "subprotocol": None},
        {"event": "message", "type": "text", "data": "welcome\x1b[2J\n"},
        {"event": "message", "type": "binary", "data": "AP8="},
        {"event": "close", "code": 4000, "reason": "as you\twish", "cause": "peer"},
    ]
    assert process.returncode == 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["connect", "ws://127.0.0.1:1/"], 1, "can not connect: "),
        (["connect", "ws://127.0.0.1:1/", "-H", "X"], 2, "write 'NAME: VALUE', not 'X'"),
        (["connect", "ws://127.0.0.1:1/", "-H", "X Y: 1"], 1, "not the name of an HTTP header"),
        (["connect", "ws://127.0.0.1:1/", "--insecure"], 1, "--insecure is for wss:// URLs"),
        (["connect"], 2, "required: URL"),
    ],
)
def test_exit_status_without_a_session(arguments: list[str], status: int, message: str) -> None:
    done = run(arguments)
    assert done.returncode == status
    assert message in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["connect", "--version"]])
def test_version(arguments: list[str]) -> None:
    assert run(arguments).stdout == f"syncws {syncws.__version__}\n"


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"socks5h://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.setitem(sys.modules, "python_socks", None)
        with pytest.raises(SystemExit, match=r"can not connect: .* pip install 'syncws\[proxy\]'"):
            main(["connect", "ws://server.invalid/"])


def test_insecure(certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with syncws.serve(talk, "127.0.0.1", ssl_context=context) as server:
        url = f"wss://127.0.0.1:{server.port}/"
        assert run(["connect", url]).returncode == 1
        assert run(["connect", "--insecure", url]).returncode == 0


def test_reconnect(server: syncws.Server) -> None:
    url = f"ws://127.0.0.1:{server.port}/"
    process = subprocess.Popen(
        [sys.executable, "-m", "syncws", "connect", "--reconnect", "--json", url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write("bye\n")
        process.stdin.flush()
        names = [json.loads(process.stdout.readline())["event"] for _ in range(6)]
        process.stdin.close()
        rest = events(process.stdout.read())
    assert names == ["open", "message", "close", "wait", "open", "message"]
    assert [(each["event"], each["code"]) for each in rest] == [("close", 1000)]
    assert process.returncode == 0


@pytest.mark.parametrize("started", [False, True])
def test_ctrl_c_while_the_thread_that_receives_is_started(
    server: syncws.Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    started: bool,
) -> None:
    """The session is closed, and no thread keeps the process."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name != "syncws connect":
            start(thread)
            return
        assert thread.daemon, "the process would wait for it"
        if started:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        main(["connect", f"ws://127.0.0.1:{server.port}/"])
    assert "this side closed the session (code 1000)" in capsys.readouterr().out


def test_ctrl_c_before_there_is_a_session() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"
        process = subprocess.Popen(
            [sys.executable, "-m", "syncws", "connect", url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            accepted, _ = silent.accept()
            with accepted:
                accepted.recv(1)
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=PATIENCE)
    assert b"Traceback" not in errors
    assert process.returncode == 130
