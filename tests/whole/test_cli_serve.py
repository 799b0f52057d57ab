"""``python -m syncws serve`` in a separate process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncws.__main__ import main

from ..support.clients import connect
from ..support.pairs import PATIENCE
from ..support.servers import Server

LISTENING = r"Serving .* on http://127\.0\.0\.1:(\d+)/"


def serving(*arguments: str, **env: str) -> Server:
    return Server(["-m", "syncws", "serve", *arguments, "--port=0"], LISTENING, **env)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_stopped_and_says_goodbye(number: signal.Signals) -> None:
    with serving("examples.echo:app") as server:
        assert "A WebSocket that echoes" in server.get("/").text
        peer = connect(server.port, "/echo")
        peer.send("hello")
        assert peer.receive() == "hello"
        server.signal(number)
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        assert server.wait() == 0
        assert "Traceback" not in server.output
        assert '127.0.0.1 "GET /echo HTTP/1.1" 101 ' in server.output


def test_a_second_ctrl_c_does_not_wait_for_handlers() -> None:
    with serving("tests.support.app:app") as server:
        peer = connect(server.port, "/sleeps/60.0")
        assert peer.receive() == "sleeping"
        server.signal(signal.SIGINT)
        assert peer.answer_close() == (1001, "")
        server.signal(signal.SIGINT)
        assert server.wait() != 0
        peer.close_socket()


def test_ctrl_c_is_noticed_when_it_does_not_interrupt_the_main_thread(tmp_path: Path) -> None:
    # A signal that another thread takes leaves the main thread's wait alone, and so does one
    # that arrives just before the wait.
    (tmp_path / "signals.py").write_text(
        "import signal, threading, time\n"
        "def handler(session):\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
        "    list(session)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    with serving("signals:handler", PYTHONPATH=str(tmp_path)) as server:
        peer = connect(server.port, "/")
        assert peer.answer_close() == (1001, "")
        assert server.wait() != 0
        peer.close_socket()


def test_reload(tmp_path: Path) -> None:
    module = tmp_path / "reloaded.py"

    def write(greeting: str) -> None:
        # The reloader compares times in nanoseconds. Python's cache compares times in whole
        # seconds, and sizes: the two versions of the file therefore differ in size.
        module.write_text(
            f"def handler(session):\n    session.send({greeting!r})\n    session.receive()\n"
        )

    write("one")
    with serving("reloaded:handler", "--reload", PYTHONPATH=str(tmp_path)) as server:
        peer = connect(server.port, "/")
        assert peer.receive() == "one"
        write("and two")
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        server.port = int(server.wait_for_line(LISTENING, count=2)[1])
        peer = connect(server.port, "/")
        assert peer.receive() == "and two"
        peer.close_socket()
        module.write_text("this is no Python")
        server.wait_for_line("SyntaxError")
        write("the third one")
        server.port = int(server.wait_for_line(LISTENING, count=3)[1])
        peer = connect(server.port, "/")
        assert peer.receive() == "the third one"
        peer.close_socket()
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does
        assert server.wait() == 0


def test_reload_without_werkzeug_says_so() -> None:
    code = (
        "import sys; sys.modules['werkzeug'] = None; "
        "from syncws.__main__ import main; main(['serve', 'examples.echo:app', '--reload'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "--reload wants Werkzeug, which is not installed: pip install werkzeug\n"


def test_an_address_that_can_not_be() -> None:
    with pytest.raises(SystemExit, match="port is from 0 to 65535"):
        main(["serve", "examples.echo:app", "--port=99999"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("app", "'app' is not of the form module:app"),
        ("no_such:app", "there is no module 'no_such' here"),
        ("examples.no_such:app", "there is no module 'examples.no_such' here"),
        ("examples/echo.py:app", "write it with dots and without .py"),
        ("examples.echo:no_such", "there is no 'no_such' in the module 'examples.echo'"),
        ("examples.echo:syncws", "examples.echo:syncws can not be served: a handler is a function"),
    ],
)
def test_what_can_not_be_served(target: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main(["serve", target, "--port=0"])
