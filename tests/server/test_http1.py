"""HTTP/1.1 with one peer, over a real socket: requests whole, and in pieces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic

import h11
import pytest

from syncws.server import http1
from syncws.server.http1 import BadRequestError, HttpConnection
from syncws.system.tls import make_transport
from syncws.system.transport import BrokenError, DeadlineError

from ..support import faults
from ..support.background import BIG, Background
from ..support.pairs import PATIENCE, tcp_pair

Ends = tuple[HttpConnection, socket.socket]

POST = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
GET = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = tcp_pair()
    theirs.settimeout(PATIENCE)
    yield HttpConnection(make_transport(ours)), theirs
    ours.close()
    theirs.close()


def answer(http: HttpConnection, status: int = 200) -> None:
    http.send(h11.Response(status_code=status, headers=[("Content-Length", "0")]))
    http.end_response()


def body(http: HttpConnection) -> bytes:
    return b"".join(iter(http.read_body, b""))


def test_requests_whole_and_byte_by_byte(ends: Ends) -> None:
    http, peer = ends
    for send in (peer.sendall, lambda data: faults.byte_by_byte(peer, data)):
        send(POST + b"body" + GET)
        request = http.next_request()
        assert request is not None
        assert (request.method, request.target) == (b"POST", b"/a")
        assert body(http) == b"body"
        answer(http)
        assert http.start_next_cycle()
        request = http.next_request()
        assert request is not None
        assert (request.method, request.target) == (b"GET", b"/b")
        assert body(http) == b""
        answer(http)
        assert http.start_next_cycle()
    peer.shutdown(socket.SHUT_WR)
    assert http.next_request() is None


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), 400),
        (POST.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"), 400),
        (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (GET.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 70_000), 431),
        (b"GET / HTTP", 400),  # and the end of the stream
    ],
)
def test_bad_requests(ends: Ends, request_: bytes, status: int) -> None:
    http, peer = ends
    peer.sendall(request_)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(BadRequestError) as caught:
        http.next_request()
    assert caught.value.status == status
    # It can be answered, and nothing behind it is read as a request.
    http.closing = True
    answer(http, status)
    assert not http.start_next_cycle()
    assert peer.recv(1000).startswith(b"HTTP/1.1 %d " % status)


def test_a_head_has_a_deadline(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_TIMEOUT", 0.1)
    http, peer = ends
    assert http.next_request() is None, "idle"
    peer.sendall(b"GET / HT")
    with pytest.raises(BadRequestError) as caught:
        http.next_request()
    assert caught.value.status == 408


def test_a_body_has_a_deadline(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "BODY_TIMEOUT", 0.1)
    http, peer = ends
    peer.sendall(POST + b"bo")
    http.next_request()
    assert http.read_body() == b"bo"
    with pytest.raises(BadRequestError) as caught:
        http.read_body()
    assert caught.value.status == 408


def test_a_peer_that_does_not_read_is_given_up(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "BODY_TIMEOUT", 0.1)
    http, peer = ends
    peer.sendall(GET)
    http.next_request()
    http.send(h11.Response(status_code=200, headers=[]))
    with pytest.raises(DeadlineError):
        http.send(h11.Data(data=BIG))


def test_a_large_body_takes_as_long_as_it_moves(ends: Ends) -> None:
    http, peer = ends
    peer.sendall(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
    http.next_request()
    http.send(h11.Response(status_code=200, headers=[]))
    sending = Background(http.send, h11.Data(data=BIG))
    received = 0
    while received < len(BIG):
        received += len(peer.recv(1_000_000))
    sending.result()


@pytest.mark.parametrize("fault", [faults.end_of_file, faults.reset])
def test_a_body_that_breaks_off(ends: Ends, fault: object) -> None:
    http, peer = ends
    peer.sendall(POST + b"bo")
    http.next_request()
    assert http.read_body() == b"bo"
    assert callable(fault)
    fault(peer)
    for _ in range(2):  # who swallows the first one does not take it for an end
        with pytest.raises(BadRequestError) as caught:
            http.read_body()
        assert caught.value.status == 400
    assert not http.start_next_cycle()


def test_100_continue_is_sent_when_the_body_is_wanted(ends: Ends) -> None:
    http, peer = ends
    peer.sendall(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    http.next_request()
    assert http.body_in_doubt
    reading = Background(body, http)
    assert peer.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.sendall(b"body")
    assert reading.result() == b"body"
    assert not http.body_in_doubt


def test_an_unread_body_is_discarded_if_it_is_small(ends: Ends) -> None:
    http, peer = ends
    peer.sendall(POST + b"body" + GET)
    http.next_request()
    answer(http)
    assert http.start_next_cycle()
    request = http.next_request()
    assert request is not None
    assert request.target == b"/b"


def test_an_unread_body_ends_the_connection_if_it_is_large(ends: Ends) -> None:
    http, peer = ends
    large = http1.DISCARD_UP_TO + 1
    peer.sendall(POST.replace(b" 4", b" %d" % large))
    http.next_request()
    answer(http)
    sending = Background(peer.sendall, b"x" * large)
    assert not http.start_next_cycle()
    sending.result()


def test_a_peer_still_sending_gets_the_answer(ends: Ends) -> None:
    """To close at once would reset the connection and take the answer from it."""
    http, peer = ends
    peer.sendall(POST)
    http.next_request()
    answer(http)
    finishing = Background(http.finish)
    peer.sendall(b"body" + b"x" * 100_000)
    assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert peer.recv(1000) == b""
    peer.shutdown(socket.SHUT_WR)
    finishing.result()


def test_a_peer_that_never_closes_is_not_waited_for_long(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "LINGER", 0.1)
    http, _ = ends
    started = monotonic()
    http.finish()
    assert monotonic() - started < PATIENCE


def test_what_lies_behind_an_upgrade(ends: Ends) -> None:
    http, peer = ends
    peer.sendall(GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\n\r\n") + b"\x81\x00")
    http.next_request()
    assert http.take_received() == b"\x81\x00"
    http.send(h11.InformationalResponse(status_code=101, headers=[("Upgrade", "websocket")]))
    assert not http.start_next_cycle()


def test_a_peer_that_is_gone(ends: Ends) -> None:
    http, peer = ends
    faults.reset(peer)
    with pytest.raises(BrokenError):
        http.next_request()
