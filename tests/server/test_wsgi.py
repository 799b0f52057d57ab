"""WSGI as applications see it, through ``serve()``."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

import syncws

from ..support.clients import exchange, handshake
from ..support.pairs import PATIENCE


def answers(application: Any, request: bytes) -> tuple[str, bytes]:
    """Head and body of all that is answered until the server closes."""
    with syncws.serve(application, "127.0.0.1", 0) as server:
        head, sock, rest = exchange(server.port, request)
        with sock:
            while data := sock.recv(65536):
                rest += data
    return head, rest


def get(target: str = "/", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_environ() -> None:
    environs: list[dict[str, Any]] = []

    def application(environ: Any, start_response: Any) -> Any:
        environs.append(environ)
        start_response("204 No Content", [])
        return []

    request = get("/caf%C3%A9%2f?q=%20", "X-A: 1", "x-a: 2", "X_A: 3", "Content-Type: text/x")
    with (
        syncws.serve(application, "127.0.0.1", 0) as server,
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock,
    ):
        address = sock.getsockname()
        sock.sendall(request)
        assert sock.recv(1000).startswith(b"HTTP/1.1 204 No Content\r\n")
    (environ,) = environs
    assert environ["PATH_INFO"] == "/caf\xc3\xa9/"
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "q=%20",
        "CONTENT_TYPE": "text/x",
        "HTTP_X_A": "1,2",
        "HTTP_HOST": "localhost",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": address[0],
        "REMOTE_PORT": str(address[1]),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {key: environ[key] for key in expected} == expected
    assert "CONTENT_LENGTH" not in environ


def test_absolute_target_names_the_host() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        target = f"{environ['PATH_INFO']} {environ['QUERY_STRING']}"
        return [f"{environ['HTTP_HOST']} {target}".encode()]

    _, body = answers(application, get("http://other:81/path", version="1.0"))
    assert body == b"other:81 /path "
    _, body = answers(application, get("http://other?query=/path", version="1.0"))
    assert body == b"other / query=/path"
    _, body = answers(application, get("http://other", version="1.0"))
    assert body == b"other / "
    _, body = answers(application, get("//path", version="1.0"))
    assert body == b"localhost //path "


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_wsgiref_validates(method: str, caplog: pytest.LogCaptureFixture) -> None:
    @validator
    def application(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(4)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body, b"!"]

    body = "body" if method == "POST" else ""
    request = get("/", f"Content-Length: {len(body)}", method=method, version="1.0")
    # Its own signature says nothing: it takes any arguments.
    head, answer = answers(lambda e, s: application(e, s), request + body.encode())
    assert head.startswith("HTTP/1.1 200 OK")
    assert answer == f"{body}!".encode()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_request_without_a_body_keeps_no_buffer() -> None:
    sizes: list[int] = []

    def application(environ: Any, start_response: Any) -> Any:
        sizes.append(sys.getsizeof(environ["wsgi.input"]))
        start_response("200 OK", [("Content-Length", "4")])
        return [b"none" if environ["wsgi.input"].read() == b"" else b"some"]

    _, body = answers(application, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + get("/"))
    assert body.startswith(b"none"), body
    assert body.endswith(b"none"), "the next request is read where this one ends"
    assert len(sizes) == 2
    assert max(sizes) < 1024, "an environ lives as long as its session"


def test_input_ends_where_the_body_does() -> None:
    read: list[Any] = []

    def application(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"]
        read.extend([body.readline(), body.read(2), body.read(), body.read(), list(body)])
        start_response("204 No Content", [])
        return []

    request = get("/", "Content-Length: 11", method="POST") + b"line\nsecondGET / HTTP/1.1\r\n\r\n"
    head, rest = answers(application, request)
    assert head.startswith("HTTP/1.1 204 ")
    assert rest == b""
    assert read == [b"line\n", b"se", b"cond", b"", []]


def test_write_and_iterable() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"one ")
        return [b"two ", b"", b"three"]

    assert answers(application, get(version="1.0"))[1] == b"one two three"


def test_headers_of_the_server_and_of_the_application() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response(
            "200 Fine",
            [
                ("Connection", "keep-alive"),
                ("Keep-Alive", "1"),
                ("Date", "today"),
                ("X-Own", " 1\t"),  # as Django's cookies
            ],
        )
        return [b"x"]

    head, _ = answers(application, get())
    lines = [line.lower() for line in head.split("\r\n")]
    assert lines[0] == "http/1.1 200 fine"
    assert sorted(lines[1:]) == [
        "connection: close",
        "date: today",
        "transfer-encoding: chunked",
        "x-own: 1",
    ]


def test_head_waits_for_the_body_and_error_replaces_it() -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        try:
            raise LookupError
        except LookupError:
            start_response("404 Not Found", [], sys.exc_info())
        yield b"not here"

    head, body = answers(application, get(version="1.0"))
    assert head.startswith("HTTP/1.1 404 Not Found")
    assert body == b"not here"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified"])
def test_responses_without_a_body(method: str, status: str) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response(status, [("ETag", '"1"')])
        return [b"body"]

    head, body = answers(application, get(method=method, version="1.0"))
    assert head.startswith(f"HTTP/1.1 {status}")
    assert body == (b"body" if (method, status) == ("GET", "200 OK") else b"")


class Closed:
    """An iterable that is to be closed, whatever comes."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    def close(self) -> None:
        self.closed += 1


def fails_late() -> Iterator[bytes]:
    yield b"some"
    raise LookupError("of the application's")


def failing_at_once(environ: Any, start_response: Any) -> Any:
    raise LookupError("of the application's")


def failing_before_the_body(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "4")])
    raise LookupError("of the application's")


def silent(environ: Any, start_response: Any) -> Any:
    return []


def twice(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def strings(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return ["text"]


def split(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("X", "a\r\nSet-Cookie: forged")])
    return []


def split_status(environ: Any, start_response: Any) -> Any:
    start_response("200 OK\r\nSet-Cookie: forged", [])
    return []


def switches(environ: Any, start_response: Any) -> Any:
    start_response("101 Switching Protocols", [("Upgrade", "x")])
    return []


@pytest.mark.parametrize(
    ("application", "logged"),
    [
        (failing_at_once, "LookupError: of the application's"),
        (failing_before_the_body, "LookupError: of the application's"),
        (silent, "the application has not called start_response"),
        (twice, "start_response() was called a second time"),
        (strings, "answers with bytes, not str"),
        (split, "LocalProtocolError"),
        (split_status, "is not an HTTP status"),
    ],
)
def test_an_application_that_fails(
    application: Any, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    head, body = answers(application, get())
    assert head.startswith("HTTP/1.1 500 Internal Server Error")
    assert "forged" not in head
    assert body == b"The server failed on this request.\n"
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert logged in caplog.text
    assert record.getMessage().startswith("the application failed on GET '/' from 127.0.0.1")


@pytest.mark.parametrize("length", [None, "100", "5"])
def test_a_response_gone_wrong_is_cut(length: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """So that the peer does not take it for a whole one."""
    result = Closed(fails_late())

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [] if length is None else [("Content-Length", length)])
        return result

    head, body = answers(application, get())
    assert not head or (head.startswith("HTTP/1.1 200 ") and b"some" in body)
    assert not body.endswith(b"0\r\n\r\n")
    assert result.closed == 1
    assert sum(record.exc_info is not None for record in caplog.records) == 1


def test_a_body_longer_than_it_said_is_a_failure_that_can_be_told() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "3")])
        return [b"hello"]

    head, _ = answers(application, get())
    assert head.startswith("HTTP/1.1 500 ")


def test_a_101_without_a_session_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    assert answers(switches, get()) == ("", b"")
    assert "the application failed on GET '/'" in caplog.text


def test_a_bad_body_is_the_peers_fault(caplog: pytest.LogCaptureFixture) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        environ["wsgi.input"].read()
        raise AssertionError("not reached")

    head, body = answers(application, get("/", "Transfer-Encoding: chunked") + b"zz\r\n")
    assert head.startswith("HTTP/1.1 400 Bad Request")
    assert body.startswith(b"This is not HTTP: illegal chunk header")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_application_may_live_with_a_bad_body() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        try:
            environ["wsgi.input"].read()
        except OSError:
            start_response("200 OK", [("Content-Length", "0")])
        return []

    request = get("/", "Transfer-Encoding: chunked").replace(b"Connection: close\r\n", b"")
    head, rest = answers(application, request + b"zz\r\n" + get("/smuggled"))
    assert head.startswith("HTTP/1.1 200 OK")
    assert rest == b""


def test_an_unread_body_in_doubt_ends_the_connection() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("403 Forbidden", [("Content-Length", "0")])
        return []

    request = get("/", "Content-Length: 4", "Expect: 100-continue", method="POST")
    request = request.replace(b"Connection: close\r\n", b"")
    head, rest = answers(application, request + b"GET ")
    assert head.startswith("HTTP/1.1 403 ")
    assert "Connection: close" in head.replace("connection", "Connection")
    assert rest == b""


def test_a_middleware_that_holds_the_response_back() -> None:
    @syncws.websocket
    def handler(session: syncws.Session) -> None: ...

    def middleware(environ: Any, start_response: Any) -> Any:
        return handler(environ, lambda *arguments: lambda data: None)

    head, _ = answers(middleware, handshake("/"))
    assert head == ""
