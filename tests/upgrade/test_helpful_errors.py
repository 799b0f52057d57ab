"""Mistakes of programs that were met: one line says what is wrong and what to write."""

from __future__ import annotations

import os
from typing import Any

import pytest

import syncws
from syncws import Session
from syncws.upgrade.connectors import connector_for

from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE


def test_a_wrong_server_names_the_command_too() -> None:
    with pytest.raises(RuntimeError, match="python -m syncws serve module:app"):
        connector_for({"SERVER_SOFTWARE": "WSGIServer/0.2"})


def test_no_headers_are_left_out() -> None:
    with pytest.raises(TypeError, match="for none, leave headers out"):
        syncws.Options(headers=None)  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (False, r"its handler has returned.*let the handler wait"),
        (True, r"the handler returned without a Close"),
    ],
)
def test_a_session_that_others_use_after_its_handler(raw: bool, message: str) -> None:
    sessions: list[Any] = []
    options: Any = {"raw": raw}
    with syncws.serve(sessions.append, "127.0.0.1", 0, **options) as server:
        peer = connect(server.port, "/")
        if not raw:
            assert peer.answer_close() == (1000, "")
        peer.expect_end()
        peer.close_socket()
        (session,) = sessions
        session.wait_closed(PATIENCE)
    with pytest.raises(syncws.ConnectionClosed, match=message):
        session.send_frame(syncws.Frame(syncws.Opcode.TEXT, b"x")) if raw else session.send("x")


def test_a_close_is_no_handler_that_has_returned() -> None:
    errors: list[syncws.ConnectionClosed] = []

    def handler(session: Session) -> None:
        session.close()
        with pytest.raises(syncws.ConnectionClosed) as caught:
            session.send("x")
        errors.append(caught.value)

    with syncws.serve(handler, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/")
        peer.answer_close()
        peer.expect_end()
        peer.close_socket()
    assert "returned" not in str(errors[0])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("raw", [False, True])
def test_a_session_in_a_forked_child(raw: bool) -> None:
    """The child gets an error, and its end does not end the parent's session."""
    told: list[bytes] = []

    def handler(session: Any) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                try:
                    session.receive_frame() if raw else session.receive()
                except syncws.ConnectionClosed as exc:
                    os.write(writing, f"{exc}".encode())
                session.terminate()
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading, "rb") as pipe:
            told.append(pipe.read())
        if raw:
            session.send_frame(syncws.Frame(syncws.Opcode.TEXT, b"alive"))
        else:
            session.send("alive")

    options: Any = {"raw": raw}
    with syncws.serve(handler, "127.0.0.1", 0, **options) as server:
        peer = connect(server.port, "/")
        assert peer.receive() == "alive"
        peer.close_socket()
    assert b"a forked child can not use it" in told[0]


def test_a_view_that_answers_something_else(caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        syncws.respond(environ, lambda session: None)
        start_response(environ["PATH_INFO"].strip("/"), [("Content-Length", "0")])
        return []

    with syncws.serve(application, "127.0.0.1", 0) as server:
        for status, warned in (("200%20OK", True), ("403%20Forbidden", False)):
            caplog.clear()
            head, sock, _ = exchange(server.port, handshake(f"/{status}"))
            sock.close()
            assert status.replace("%20", " ") in head
            assert ("the response is '200 OK' and none opens" in caplog.text) == warned
