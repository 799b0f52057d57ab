"""HTTP beside WebSockets (C17): pipelining, chunked bodies, multipart, ranges, Expect,
keep-alive.

The same bytes are sent to gunicorn with our worker class, where sessions are
open, and to gunicorn with its own threaded worker: the answers are the same to
the byte, but for their dates. ``serve()`` has an HTTP of its own: its answers
mean the same.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any, TypeAlias

import h11
import pytest
from gunicorn import version_info as gunicorn_version

import syncws

from ..support.clients import connect
from ..support.http_app import CONTENT, LICENSE, app
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn


class Until(bytes):
    """Wait for answers that end with this."""


#: What is sent, and waited for, one after the other.
Steps: TypeAlias = list[bytes]

HEAD_END = Until(b"\r\n\r\n")
JSON_END = Until(b"}\n")
HTML_END = Until(b"</p>\n")
CHUNKS_END = Until(b"\r\n0\r\n\r\n")


def get(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join(
        [f"{method} {target} HTTP/{version}", "Host: localhost", *headers, "", ""]
    ).encode("latin-1")


def post(target: str, body: bytes, *headers: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunked(target: str, *chunks: bytes, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    parts = [b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
    head = get(target, "Transfer-Encoding: chunked", "Connection: close", method="POST")
    return head + b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


CLOSE = "Connection: close"
LAST = get("/request?last", CLOSE)
FILE = LICENSE.read_bytes()

MULTIPART = b"\r\n".join(
    [
        b"--b0undary",
        b'Content-Disposition: form-data; name="title"',
        b"",
        b"a title",
        b"--b0undary",
        b'Content-Disposition: form-data; name="file"; filename="all.bin"',
        b"Content-Type: application/octet-stream",
        b"",
        CONTENT * 20,
        b"--b0undary",
        b'Content-Disposition: form-data; name="file"; filename="none.txt"',
        b"Content-Type: text/plain",
        b"",
        b"",
        b"--b0undary--",
        b"",
    ]
)
FORM = "Content-Type: multipart/form-data; boundary=b0undary"

REQUESTS: dict[str, Steps] = {
    "one request": [get("/request?a=1&a=%20", CLOSE, "X-Header: one", "x-header: two")],
    "head": [get("/request", CLOSE, method="HEAD")],
    "head of a stream": [get("/stream", CLOSE, method="HEAD")],
    "no content": [get("/nothing"), HEAD_END, LAST],
    "not found": [get("/nowhere"), HTML_END, LAST],
    "method not allowed": [get("/upload"), HTML_END, LAST],
    "options": [get("/request", CLOSE, method="OPTIONS")],
    "absolute target": [get("http://localhost/request?a", CLOSE)],
    "encoded path": [get("/re%71uest", CLOSE)],
    # Keep-alive and pipelining
    "keep-alive": [get("/request?1"), JSON_END, get("/stream"), CHUNKS_END, LAST],
    "pipelined": [get("/request?1") + get("/stream") + get("/memory") + get("/request?2") + LAST],
    "pipelined behind bodies": [
        post("/request", b"one")
        + post("/request", b"GET / HTTP/1.1")
        + post("/unread", b"2")
        + LAST
    ],
    "pipelined, cut anywhere": [
        *re.findall(rb"(?s).{1,7}", get("/request?1") + post("/request", b"x") + LAST)
    ],
    "http/1.0": [get("/request", version="1.0")],
    "http/1.0 and a stream": [get("/stream", version="1.0")],
    # Bodies
    "a body": [post("/request", b"a body", CLOSE)],
    "a body of no length": [post("/request", b"", CLOSE)],
    "a body in two": [post("/request", b"", CLOSE).replace(b": 0", b": 6"), b"two", b"six"],
    "put": [post("/request", b"put", CLOSE).replace(b"POST", b"PUT")],
    "chunked": [chunked("/request", b"one", b"two" * 100, b"\r\n0\r\n\r\n")],
    "chunked of none": [chunked("/request")],
    "chunked, with extensions": [chunked("/request", b"one", b"two", extension=b";name=value")],
    "chunked, with trailers": [chunked("/request", b"one", trailer=b"X-Trailer: yes\r\n")],
    "chunked, byte by byte": [
        bytes([byte]) for byte in chunked("/request", b"one", b"two", trailer=b"X-T: 1\r\n")
    ],
    "chunked and pipelined": [
        chunked("/request", b"one").replace(b"Connection: close\r\n", b"") + LAST
    ],
    "multipart": [post("/upload", MULTIPART, FORM, CLOSE)],
    "multipart, chunked": [
        get("/upload", FORM, "Transfer-Encoding: chunked", CLOSE, method="POST"),
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(MULTIPART), MULTIPART),
    ],
    # Expect
    "expect": [
        get("/request", "Content-Length: 4", "Expect: 100-continue", CLOSE, method="POST"),
        HEAD_END,
        b"body",
    ],
    "expect, and the body at once": [post("/request", b"body", "Expect: 100-continue", CLOSE)],
    "expect and chunked": [
        get("/request", "Transfer-Encoding: chunked", "Expect: 100-continue", CLOSE, method="POST"),
        HEAD_END,
        b"4\r\nbody\r\n0\r\n\r\n",
    ],
    # Ranges and conditions
    "range": [get("/memory", "Range: bytes=10-19", CLOSE)],
    "range at the end": [get("/memory", "Range: bytes=-5", CLOSE)],
    "range beyond": [get("/memory", "Range: bytes=999999-", CLOSE)],
    "range of a file": [
        get("/disk", "Range: bytes=0-9"),
        Until(FILE[:10]),
        get("/disk"),
        Until(FILE[-10:]),
        LAST,
    ],
    "not modified": [get("/memory", 'If-None-Match: "one"'), HEAD_END, LAST],
    "range if unchanged": [get("/memory", "Range: bytes=0-1", 'If-Range: "two"', CLOSE)],
    # Another protocol offered, and not taken
    "upgrade to something else": [
        get("/request", "Upgrade: h2c", "Connection: Upgrade"),
        JSON_END,
        LAST,
    ],
}

#: What is refused, and ends the connection. The words are each server's own.
BAD_REQUESTS: dict[str, Steps] = {
    "garbage": [b"\x16\x03\x01\x02\x00\r\n\r\n"],
    "length and chunked": [
        chunked("/request", b"one").replace(CLOSE.encode(), b"Content-Length: 3")
    ],
    "two lengths": [post("/request", b"one", "Content-Length: 4")],
    "length that is no number": [get("/request", "Content-Length: 3a", method="POST")],
    "negative length": [get("/request", "Content-Length: -1", method="POST")],
    "space before the colon": [get("/request", "X-Header : 1")],
    "bad chunk": [chunked("/request", b"one").replace(b"3\r\n", b"zz\r\n")],
    "http/1.0 and chunked": [chunked("/request", b"one").replace(b"HTTP/1.1", b"HTTP/1.0")],
}


def talk(port: int, steps: Steps) -> bytes:
    """Send the steps; gives all that is answered until the server closes."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        for step in steps:
            if isinstance(step, Until):
                while not received.endswith(step):
                    data = sock.recv(65536)
                    assert data, received
                    received += data
            else:
                sock.sendall(step)
        while data := sock.recv(65536):
            received += data
        return received


def cases(all_: dict[str, Steps]) -> list[Any]:
    """The names, with what is known of some."""
    return [
        pytest.param(name, marks=STOCK_PIPELINES) if "pipelined" in name else name for name in all_
    ]


STOCK_PIPELINES = pytest.mark.skipif(
    gunicorn_version < (27,),
    reason="gunicorn before 27 forgets requests that came along with another's body or head",
)


def comparable(answers: bytes) -> bytes:
    """Without dates, and with the methods allowed, which Flask keeps in a set, in order."""
    answers = re.sub(rb"\r\nDate: [^\r]*", b"", answers)
    return re.sub(rb"(?<=\r\nAllow: )[^\r]*", in_order, answers)


def in_order(methods: re.Match[bytes]) -> bytes:
    return b", ".join(sorted(methods[0].split(b", ")))


@pytest.fixture(scope="module")
def stock() -> Iterator[Server]:
    with gunicorn("tests.support.http_app:app", worker="gthread") as server:
        yield server
        server.stop()


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with gunicorn("tests.support.http_app:app") as server:
        yield server
        server.stop()


@pytest.mark.parametrize("name", cases({**REQUESTS, **BAD_REQUESTS}))
def test_c17_http_beside_a_session_is_what_stock_gunicorn_does(
    stock: Server, ours: Server, name: str
) -> None:
    steps = {**REQUESTS, **BAD_REQUESTS}[name]
    session = connect(ours.port, "/echo")
    session.send("before")
    assert session.receive() == "before"
    answers = talk(ours.port, steps)
    assert answers
    assert comparable(answers) == comparable(talk(stock.port, steps))
    session.send("after")
    assert session.receive() == "after"
    session.close_socket()


@pytest.fixture
def served() -> Iterator[syncws.Server]:
    with syncws.serve(app, "127.0.0.1", 0) as server:
        yield server


#: What an answer means; the rest of the headers is for the server to choose.
Meaning: TypeAlias = tuple[int, dict[bytes, bytes], bytes]

MEANT = {
    b"accept-ranges",
    b"allow",
    b"content-range",
    b"content-type",
    b"etag",
    b"last-modified",
}


def meanings(answers: bytes, steps: Steps) -> list[Meaning]:
    """The answers, as a client would understand them."""
    answers = comparable(answers)
    requests = b"".join(step for step in steps if not isinstance(step, Until))
    methods = re.findall(rb"(GET|POST|PUT|HEAD|OPTIONS) [^ ]+ HTTP/1.[01]\r\n", requests)
    found: list[Meaning] = []
    while answers:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=methods[len(found)], target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answers)
        client.receive_data(b"")
        body = b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {name: value for name, value in event.headers if name in MEANT}
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.InformationalResponse)
        found.append((status, headers, body))
        answers = client.trailing_data[0]
    return found


@pytest.mark.parametrize("name", cases(REQUESTS))
def test_c17_serve_answers_what_gunicorn_answers(
    stock: Server, served: syncws.Server, name: str
) -> None:
    steps = REQUESTS[name]
    session = connect(served.port, "/echo")
    answers = meanings(talk(served.port, steps), steps)
    assert answers
    assert answers == meanings(talk(stock.port, steps), steps)
    session.send("after")
    assert session.receive() == "after"
    session.close_socket()


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_c17_serve_refuses_what_is_no_http(served: syncws.Server, name: str) -> None:
    answers = talk(served.port, BAD_REQUESTS[name])
    # What is wrong in a body Flask finds out, and takes upon itself.
    status = b"500" if name == "bad chunk" else b"400"
    assert answers.startswith(b"HTTP/1.1 %s " % status), answers
    assert b"\r\nConnection: close\r\n" in answers.replace(b"connection", b"Connection")
    assert answers.count(b"HTTP/1.1") == 1
