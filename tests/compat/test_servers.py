"""The modules of ``syncws.compat`` on every server that syncws runs on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from ..support.clients import connect
from ..support.pairs import PATIENCE, frame
from ..support.servers import Server, gunicorn, werkzeug
from .programs import socketio_client

APP = "tests.support.compat_imports_app:app"


@pytest.fixture(scope="module", params=["worker", "gthread", "flask run", "serve"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "worker":
        started = gunicorn(APP)
    elif request.param == "gthread":
        started = gunicorn(APP, "--threads=8", worker="gthread")
    elif request.param == "flask run":
        started = werkzeug(APP)
    else:
        command = ["-m", "syncws", "serve", "--port=0", APP]
        started = Server(command, r"127\.0\.0\.1:(\d+)")
    with started:
        yield started


def test_f1_flask_socks_interface(server: Server) -> None:
    peer = connect(
        server.port, "/echo/ann", "Sec-WebSocket-Protocol: other, chat", behind=frame(1, b"early")
    )
    assert peer.receive() == "ann: early"
    peer.send("x" * 1001)
    assert peer.answer_close()[0] == 1009
    peer.close_socket()
    assert server.get("/").text == "plain HTTP\n"


def test_f1_simple_websockets_server_in_a_view(server: Server) -> None:
    lines = len(server.lines)
    for closed_by_the_view in (True, False):
        peer = connect(server.port, "/own-view", behind=frame(1, b"early"))
        assert peer.receive() == "early"
        if closed_by_the_view:
            peer.send("close")
            assert peer.answer_close() == (4001, "enough")
        else:
            peer.send_close(1000)
            assert peer.expect_close()[0] == 1000
        peer.expect_end()  # and not the view's answer
        peer.close_socket()
    assert server.get("/").text == "plain HTTP\n"
    assert "Traceback" not in "\n".join(server.lines[lines:])


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]])
def test_f2_the_import_is_all_that_socketio_needs(server: Server, transports: list[str]) -> None:
    with socketio_client(server, *transports) as client:
        assert client.call("say", "hello", timeout=PATIENCE) == "hello"
        assert client.transport == "websocket"


def test_an_import_of_syncws_changes_no_other_library() -> None:
    code = (
        "import syncws, syncws.compat, syncws.compat.simple_websocket as ours, simple_websocket;"
        "assert simple_websocket.Server is not ours.Server;"
        "import sys; assert 'gunicorn' not in sys.modules and 'engineio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
