"""WebSockets on paths of any WSGI application."""

from __future__ import annotations

from typing import Any

import pytest

import syncws
from syncws import Session, WebSocketMiddleware

from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import gunicorn


def wsgi_app(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"plain"]


def echo(session: Session) -> None:
    for message in session:
        session.send(message)


@syncws.websocket(subprotocols=["chat"])
def chat(session: Session) -> None:
    session.send(str(session.subprotocol))


app = WebSocketMiddleware(wsgi_app, {"/echo": echo, "/chat": chat}, max_message_size=10)


def test_d9_upgrades_requests_on_its_paths() -> None:
    with gunicorn("tests.upgrade.test_middleware:app") as server:
        peer = connect(server.port, "/echo?and=more")
        peer.send("hello")
        assert peer.receive() == "hello"
        peer.send("larger than the option allows")
        assert peer.expect_close()[0] == 1009
        peer.close_socket()
        peer = connect(server.port, "/chat", "Sec-WebSocket-Protocol: chat")
        assert peer.receive() == "chat"
        peer.close_socket()
        for path in ("/", "/echo"):
            assert server.get(path).text == "plain"
        for path in ("/", "/echo/", "/other"):
            head, sock, rest = exchange(server.port, handshake(path))
            sock.close()
            assert head.startswith("HTTP/1.1 200 "), head
            assert rest in (b"", b"plain")


def test_d9_refuses_what_can_not_be() -> None:
    with pytest.raises(ValueError, match="use '/echo', not 'echo'"):
        WebSocketMiddleware(wsgi_app, {"echo": echo})
    with pytest.raises(TypeError):
        WebSocketMiddleware(wsgi_app, {"/echo": echo}, no_such_option=1)  # type: ignore[call-arg]  # that is the test


def test_what_can_be_no_application_and_no_handlers() -> None:
    application = syncws.websocket(lambda session: None)
    wrong: list[Any] = [(None,), ({"/echo": application},), (application, ["/echo"])]
    for arguments in wrong:
        with pytest.raises(TypeError, match=r'write WebSocketMiddleware\(application, {"/path"'):
            syncws.WebSocketMiddleware(*arguments)


@pytest.mark.parametrize("late", [False, True])
def test_the_response_of_a_middleware_ends_before_the_session_begins(late: bool) -> None:
    """OpenTelemetry's middleware ends its span at the end of the response."""
    done: list[str] = []

    def handler(session: syncws.Session) -> None:
        session.send(" ".join(done))

    def view(environ: Any, start_response: Any) -> Any:
        response = syncws.respond(environ, handler)
        start_response(response.status, response.headers)
        return [response.body]

    def parts(environ: Any, start_response: Any, body: Any) -> Any:
        try:
            yield from view(environ, start_response) if body is None else body
        finally:
            done.append("ended")

    def middleware(environ: Any, start_response: Any) -> Any:
        return parts(environ, start_response, None if late else view(environ, start_response))

    with (
        syncws.serve(middleware, "127.0.0.1") as server,
        syncws.connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as session,
    ):
        assert session.receive(PATIENCE) == "ended"
