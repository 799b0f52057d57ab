"""A connection of ``serve()``: its log lines, its deadlines, its end."""

from __future__ import annotations

import logging
import re
import socket
from typing import Any

import h11
import pytest

import syncws
from syncws.server import http1

from ..support import faults
from ..support.clients import connect, exchange, handshake
from ..support.memory_app import calls
from ..support.pairs import PATIENCE, frame


def page(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"page\n"]


def returns(session: syncws.Session) -> None:
    session.send("bye")


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [r.getMessage() for r in caplog.records if r.name == "syncws.access"]
    return [re.sub(r"\d+\.\d{3} s$", "T", message) for message in messages]


def test_one_access_line_a_request_and_a_session(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "syncws.access")
    with syncws.serve(page, "127.0.0.1", 0) as server:
        request = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"
        _, sock, rest = exchange(server.port, request + request)
        while rest.count(b"page\n") < 2:
            rest += sock.recv(4096)
        sock.close()
    assert access_lines(caplog) == ['127.0.0.1 "GET /a?b HTTP/1.1" 200 5 bytes T'] * 2
    caplog.clear()
    with syncws.serve(returns, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/s")
        assert peer.receive() == "bye"
        assert peer.answer_close() == (1000, "")
        peer.expect_end()
        peer.close_socket()
    # A message of 5 bytes and a Close of 4.
    assert access_lines(caplog) == ['127.0.0.1 "GET /s HTTP/1.1" 101 9 bytes T']


def test_normal_ends_and_bad_peers_are_no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with syncws.serve(page, "127.0.0.1", 0) as server:
        for fault in (faults.reset, faults.end_of_file):
            for begun in (
                b"",
                b"GET / HT",
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
            ):
                sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
                sock.sendall(begun)
                fault(sock)
                sock.close()
        head, sock, _ = exchange(server.port, b"garbage\r\n\r\n")
        sock.close()
        assert head.startswith("HTTP/1.1 400 ")
    assert not [r for r in caplog.records if r.levelno > logging.INFO or r.exc_info]


def test_a_slow_head_is_answered_with_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "HEAD_TIMEOUT", 0.1)
    with syncws.serve(page, "127.0.0.1", 0) as server:
        head, sock, rest = exchange(server.port, handshake("/")[:-2])
        assert head.startswith("HTTP/1.1 408 ")
        assert "Connection: close" in head
        assert rest + sock.recv(100) == b"The head of the request took too long.\n"
        sock.close()


def test_bytes_behind_a_session_are_no_http(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "syncws.access")
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with syncws.serve(returns, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/", behind=frame(8, b"\x03\xe8") + smuggled)
        peer.receive()
        peer.close_socket()
    assert len(access_lines(caplog)) == 1


def test_bytes_behind_a_refused_upgrade_are_no_http(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "syncws.access")
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with syncws.serve(page, "127.0.0.1", 0) as server:
        head, sock, rest = exchange(server.port, handshake("/") + smuggled)
        assert "Connection: close" in head
        while data := sock.recv(4096):
            rest += data
        assert rest == b"page\n"
        sock.close()
    assert len(access_lines(caplog)) == 1


def test_a_handler_that_exits_ends_its_own_session() -> None:
    def leaves(session: syncws.Session) -> None:
        raise SystemExit

    with syncws.serve(leaves, "127.0.0.1", 0) as server:
        for _ in range(2):
            peer = connect(server.port, "/")
            assert peer.expect_close() == (1011, "")
            peer.expect_end()
            peer.close_socket()


def test_a_session_keeps_no_request_of_h11s() -> None:
    """Its headers would take as much memory as the environ, for as long as the session lasts."""
    kept: set[type] = set()

    def handler(session: syncws.Session) -> None:
        for call in calls():
            kept.update(type(each) for each in call.f_locals.values())

    with syncws.serve(handler, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/")
        peer.expect_close()
        peer.send_close()
        peer.close_socket()
    assert syncws.Session in kept
    assert h11.Request not in kept
