"""Every framework's example, on real servers."""

from __future__ import annotations

import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

import syncws
from syncws import HandshakeError, Session
from syncws.testing import WebSocketClient
from syncws.upgrade.respond import carry_out_upgrades

from ..support.background import Background
from ..support.calls import LoopbackConnector
from ..support.clients import connect, exchange, handshake
from ..support.handshakes import request
from ..support.pairs import PATIENCE, tcp_pair
from ..support.servers import Server, gunicorn

EXAMPLES = [
    pytest.param(("examples.bottle_echo", "/echo"), id="bottle"),
    pytest.param(("examples.falcon_echo", "/echo"), id="falcon"),
    pytest.param(("examples.pyramid_echo", "/echo"), id="pyramid"),
    pytest.param(("examples.django_echo", "/ws/lobby/"), id="django"),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_in_the_test_client(example: tuple[str, str]) -> None:
    module, path = example
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Pyramid imports
        app = importlib.import_module(module).app
    client = WebSocketClient(app)
    with client.connect(
        f"{path}?secret=open&name=Ann", headers={"Accept-Encoding": "gzip"}
    ) as peer:
        assert peer.receive() == "hello, Ann"
        peer.send("héllo")
        assert peer.receive() == "héllo"
    with pytest.raises(HandshakeError) as caught:
        client.connect(path)
    assert caught.value.status == 401
    with pytest.raises(HandshakeError) as caught:
        client.connect(f"{path}?secret=open", headers={"Origin": "https://evil.net"})
    assert caught.value.status == 403


@pytest.fixture(scope="module", params=EXAMPLES)
def served(request: Any) -> Iterator[tuple[Server, str]]:
    module, path = request.param
    with gunicorn(f"{module}:app") as server:
        yield server, path
        server.stop()
        assert "Traceback" not in server.output


def test_a_session_with_the_frameworks_request(served: tuple[Server, str]) -> None:
    server, path = served
    peer = connect(server.port, f"{path}?secret=open&name=Ann", "Accept-Encoding: gzip")
    assert peer.receive() == "hello, Ann"
    peer.send("héllo")
    assert peer.receive() == "héllo"
    assert "WebSocket" in server.get("/").text
    peer.send_close()
    assert peer.expect_close() == (1000, "")
    peer.close_socket()


def test_a_view_refuses_before_the_upgrade(served: tuple[Server, str]) -> None:
    server, path = served
    head, sock, _ = exchange(server.port, handshake(path))
    sock.close()
    assert " 401 " in head
    assert server.get(f"{path}?secret=open").status_code == 501
    foreign = handshake(f"{path}?secret=open", "localhost", "Origin: https://evil.net")
    head, sock, _ = exchange(server.port, foreign)
    sock.close()
    assert " 403 " in head


def test_only_the_headers_of_the_application_are_added(served: tuple[Server, str]) -> None:
    server, path = served
    head, sock, _ = exchange(
        server.port, handshake(f"{path}?secret=open", "localhost", "Accept-Encoding: gzip")
    )
    sock.close()
    names = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:]]
    assert not {"content-type", "content-length", "content-encoding"} & set(names)
    assert names.count("upgrade") == names.count("connection") == 1
    if path.startswith("/ws/"):
        assert "set-cookie" in names, "Django's session is in the 101"


# The neutral core


def view(handler: Callable[[Session], Any]) -> Any:
    def application(environ: Any, start_response: Any) -> Any:
        response = syncws.respond(environ, handler)
        start_response(response.status, [*response.headers, ("X-Mine", "yes")])
        return Body()

    return application


class Body:
    closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        self.closed.set()


def test_the_response_is_closed_before_the_session_begins() -> None:
    """What a framework does at the end of a request, it does before a session."""
    ours, theirs = tcp_pair()
    Body.closed.clear()
    seen: list[bool] = []
    started: list[Any] = []

    def start(status: str, headers: Any, exc_info: Any = None) -> Any:
        started.append((status, headers))
        return lambda data: None

    environ = {**request(), "syncws.connection": LoopbackConnector(ours)}
    application = carry_out_upgrades(view(lambda session: seen.append(Body.closed.is_set())))
    running = Background(application, environ, start)
    theirs.settimeout(PATIENCE)
    assert theirs.recv(100) == b"\x88\x02\x03\xe8"
    theirs.close()
    assert list(running.result()) == []
    ours.close()
    assert seen == [True]
    ((status, headers),) = started
    assert status == "101 Switching Protocols"
    assert ("X-Mine", "yes") in headers


def test_a_middleware_that_is_a_generator() -> None:
    """Nothing of it, nor of the application, is run before it is asked for the body."""

    def middleware(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from view(lambda session: session.send("hi"))(environ, start_response)

    with syncws.serve(middleware, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/")
        assert peer.receive() == "hi"
        assert peer.answer_close() == (1000, "")
        peer.close_socket()

    def page(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        yield b"pa"
        yield b"ge"

    with syncws.serve(page, "127.0.0.1", 0) as server:
        assert requests.get(f"http://127.0.0.1:{server.port}/", timeout=PATIENCE).text == "page"


def test_a_response_that_was_thought_better_of_is_sent() -> None:
    """A middleware may answer something else though the view was ready."""

    def application(environ: Any, start_response: Any) -> Any:
        syncws.respond(environ, print)
        start_response("403 Forbidden", [])
        return [b"no"]

    started: list[str] = []
    body = carry_out_upgrades(application)(
        request(),
        lambda status, headers, exc_info=None: started.append(status),  # type: ignore[arg-type]  # write() is not used
    )
    assert (started, list(body)) == (["403 Forbidden"], [b"no"])


@pytest.mark.parametrize("lazily", [False, True])
def test_a_101_that_is_replaced_is_not_carried_out(lazily: bool) -> None:
    """PEP 3333: with ``exc_info`` an error handler replaces a response that was not sent."""

    def application(environ: Any, start_response: Any) -> Any:
        response = syncws.respond(environ, print)
        start_response(response.status, response.headers)
        raise LookupError("after the view")

    def with_errors(environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            yield from application(environ, start_response)
        except LookupError:
            start_response("500 Failed", [("Content-Length", "6")], sys.exc_info())
            yield b"failed"

    def eager(environ: Any, start_response: Any) -> list[bytes]:
        return list(with_errors(environ, start_response))

    with syncws.serve(with_errors if lazily else eager, "127.0.0.1", 0) as server:
        head, sock, body = exchange(server.port, handshake("/"))
        with sock:
            while data := sock.recv(100):
                body += data
    assert head.startswith("HTTP/1.1 500 Failed")
    assert body == b"failed"


def test_elsewhere_the_middleware_is_asked_for() -> None:
    with pytest.raises(RuntimeError, match="WebSocketMiddleware"):
        syncws.respond(request(), print)


def test_an_application_answers_plain_requests() -> None:
    body = Body()
    body.closed.clear()

    def instead(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("X-Instead", environ["HTTP_HOST"])])
        write(b"a page")
        return body

    environ = request()
    del environ["HTTP_UPGRADE"]
    response = syncws.respond(environ, print, on_non_websocket_request=instead)
    assert response == ("200 OK", [("X-Instead", environ["HTTP_HOST"])], b"a page")
    assert body.closed.is_set()


def test_a_refusal_needs_nothing_of_the_server() -> None:
    environ = request()
    del environ["HTTP_UPGRADE"]
    response = syncws.respond(environ, print)
    assert response.code == 501
    assert b"Upgrade" in response.body
