"""``gunicorn -k syncws.compat.Worker``: programs that stay unchanged."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.clients import connect, exchange, handshake
from ..support.pairs import frame
from ..support.servers import Server, gunicorn

WORKER = "syncws.compat.Worker"


@pytest.fixture(scope="module", params=["app", "plain"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with gunicorn(f"tests.support.compat_app:{request.param}", "--threads=2", worker=WORKER) as it:
        yield it


def test_f1_sessions_beyond_the_threads_leave_http_alone(server: Server) -> None:
    peers = [connect(server.port, "/echo") for _ in range(6)]
    for number, peer in enumerate(peers):
        peer.send(f"message {number}")
        assert peer.receive() == f"message {number}"
    assert server.get("/").text == "plain HTTP\n"
    for peer in peers:
        peer.send_close(1000)
        assert peer.expect_close() == (1000, "")
        peer.expect_end()
        peer.close_socket()


def test_f1_the_first_message_may_come_with_the_handshake(server: Server) -> None:
    peer = connect(server.port, "/echo", behind=frame(1, b"early"))
    assert peer.receive() == "early"
    peer.send_close(1000)
    peer.expect_close()
    peer.expect_end()
    peer.close_socket()


def test_f1_a_handler_that_fails_closes_with_1011(server: Server) -> None:
    before = server.output.count("LookupError: the handler fails")
    peer = connect(server.port, "/fails")
    assert peer.answer_close()[0] == 1011
    peer.expect_end()
    peer.close_socket()
    server.wait_for_line("LookupError: the handler fails", count=before + 1)
    server.wait_for_line('"GET /fails HTTP/1.1" 101')
    assert server.output.count("LookupError: the handler fails") == before + 1


def test_f1_a_malformed_handshake_is_refused_without_a_traceback(server: Server) -> None:
    lines = len(server.lines)
    for text, status in (
        ("Sec-WebSocket-Version: 13", "HTTP/1.1 426 "),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "HTTP/1.1 400 "),
    ):
        request = handshake("/echo").replace(text.encode(), text.partition(" ")[0].encode() + b" 7")
        head, sock, _ = exchange(server.port, request)
        sock.close()
        assert head.startswith(status), head
    assert server.get("/?after-the-refusals").ok
    server.wait_for_line("after-the-refusals")  # what came before has been read
    output = "\n".join(server.lines[lines:])
    assert "Traceback" not in output
    assert output.count("refused '/echo'") == 2


def test_f1_django_logs_no_traceback_of_a_malformed_handshake() -> None:
    malformed = handshake("/echo").replace(b"Sec-WebSocket-Version: 13", b"X: 13")
    with gunicorn("tests.support.compat_django_app:app", worker=WORKER) as server:
        peer = connect(server.port, "/echo", behind=frame(1, b"early"))
        assert peer.receive() == "early"
        peer.send_close(1000)
        peer.expect_close()
        peer.expect_end()
        peer.close_socket()
        for path, status in (("/echo", "400"), ("/own-answer", "418")):
            head, sock, _ = exchange(server.port, malformed.replace(b"/echo", path.encode()))
            sock.close()
            assert head.startswith(f"HTTP/1.1 {status} "), head
        server.wait_for_line('"GET /own-answer HTTP/1.1" 418')
        assert "Traceback" not in server.output


def test_f1_normal_ends_are_one_line_in_the_access_log(server: Server) -> None:
    lines = len(server.lines)
    for _ in range(20):
        peer = connect(server.port, "/echo?counted")
        peer.send_close(1001)
        assert peer.expect_close()[0] == 1001
        peer.expect_end()
        peer.close_socket()
    server.wait_for_line('"GET /echo\\?counted HTTP/1.1" 101', count=20)
    assert server.get("/?after-the-ends").ok
    server.wait_for_line("after-the-ends")
    output = "\n".join(server.lines[lines:])
    assert output.count("/echo?counted") == 20
    assert "Traceback" not in output


def test_f1_flask_sock_has_its_options_and_its_end() -> None:
    with gunicorn("tests.support.compat_app:app", worker=WORKER) as server:
        peer = connect(server.port, "/echo", "Sec-WebSocket-Protocol: other, chat")
        peer.send("x" * 1001)
        assert peer.answer_close()[0] == 1009
        peer.close_socket()
        peer = connect(server.port, "/returns")
        assert peer.receive() == "the last message"
        assert peer.answer_close()[0] == 1000
        peer.expect_end()
        peer.close_socket()
        peer = connect(server.port, "/own-view")
        peer.send("one")
        assert peer.receive() == "one"
        peer.send_close(1000)
        assert peer.expect_close()[0] == 1000
        peer.expect_end()  # and not the view's answer
        peer.close_socket()


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_f1_a_stop_says_1001(preload: list[str]) -> None:
    with gunicorn("tests.support.compat_app:app", *preload, worker=WORKER) as server:
        peer = connect(server.port, "/echo")
        server.signal(signal.SIGTERM)
        assert peer.answer_close()[0] == 1001
        peer.close_socket()
        assert server.wait() == 0  # long before graceful_timeout, which is 30 s


def test_f1_a_page_of_another_site_is_named_once() -> None:
    with gunicorn("tests.support.compat_app:app", worker=WORKER) as server:
        for _ in range(2):
            peer = connect(server.port, "/returns", "Origin: https://other.example")
            assert peer.receive() == "the last message"
            peer.answer_close()
            peer.close_socket()
        server.wait_for_line('"GET /returns HTTP/1.1" 101', count=2)
        assert server.output.count("SOCK_SERVER_OPTIONS") == 1


def test_f1_over_tls(certificate: tuple[Path, Path]) -> None:
    import ssl

    key, cert = certificate
    context = ssl.create_default_context(cafile=cert)
    context.check_hostname = False
    with gunicorn(
        "tests.support.compat_app:app", f"--keyfile={key}", f"--certfile={cert}", worker=WORKER
    ) as server:
        head, sock, _ = exchange(server.port, handshake("/echo") + frame(1, b"early"), tls=context)
        assert head.startswith("HTTP/1.1 101 ")
        assert sock.recv(100).endswith(b"early") or sock.recv(100).endswith(b"early")
        sock.close()


def test_stock_gunicorn_ends_a_session_without_a_close_when_it_stops() -> None:
    """The same program there: the reason for the worker."""
    with gunicorn(
        "tests.support.compat_app:app", "--graceful-timeout=1", "--threads=4", worker="gthread"
    ) as server:
        peer = connect(server.port, "/echo")
        peer.send("one")
        assert peer.receive() == "one"
        server.signal(signal.SIGTERM)
        assert peer.next_event() is None
        peer.close_socket()
        server.wait()
