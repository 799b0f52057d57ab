"""Programs that use the socket of an upgrade request themselves."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsproto.events import CloseConnection

from syncws.worker import borrowed as borrowed_module
from syncws.worker.borrowed import Borrowed

from ..support.background import Background, wait_until
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE, tcp_pair
from ..support.servers import gunicorn, status_when


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = tcp_pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_waits_for_the_threads_that_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    borrowed = Borrowed(ours)
    go = threading.Event()

    def answer() -> None:
        data = ours.recv(100)
        assert go.wait(PATIENCE)
        ours.sendall(data)

    reader = threading.Thread(target=answer)
    reader.start()
    theirs.sendall(b"close")
    timer = threading.Timer(0.1, go.set)
    timer.start()
    wait_until(lambda: borrowed._threads)
    assert borrowed.wait()
    assert not reader.is_alive()
    assert not borrowed_module._observed
    assert theirs.recv(100) == b"close"
    timer.join()


def test_a_reader_whose_peer_says_nothing_is_woken(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = pair
    monkeypatch.setattr(borrowed_module, "LINGER", 0.2)
    borrowed = Borrowed(ours)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(ours.recv(100)))
    reader.start()
    wait_until(lambda: borrowed._threads)
    assert borrowed.wait()
    assert received == [b""]
    reader.join(PATIENCE)


def test_threads_that_only_send_are_not_waited_for(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A thread that sends to many lives on when one of them has gone."""
    ours, _ = pair
    borrowed = Borrowed(ours)
    assert list(borrowed_module._observed.values()) == [borrowed]
    over = threading.Event()

    def broadcast() -> None:
        ours.sendall(b"news")
        over.wait(PATIENCE)

    sender = threading.Thread(target=broadcast)
    sender.start()
    assert borrowed.wait()
    over.set()
    sender.join(PATIENCE)


def test_the_socket_becomes_an_ordinary_one_again(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    borrowed = Borrowed(ours)
    assert type(ours) is not socket.socket
    borrowed.stop_observing()
    assert type(ours) is socket.socket
    theirs.sendall(b"hello")
    assert Background(lambda: ours.recv(100)).result() == b"hello"
    assert borrowed.wait()


def test_the_close_of_a_program_is_never_cut_off() -> None:
    """flask-sock answers a Close in a thread, after it has woken the handler."""
    with gunicorn("tests.support.flask_sock_app:app") as server:
        for _ in range(100):
            peer = connect(server.port, "/echo")
            peer.send("hello")
            assert peer.receive() == "hello"
            peer.send_close(1000, "bye")
            event = peer.next_event()
            assert isinstance(event, CloseConnection)
            assert (event.code, event.reason) == (1000, "bye")
            peer.expect_end()
            peer.close_socket()
        status_when(server, lambda status: status["connections"] == 1 and status["threads"] == 0)
        server.stop()
        assert "Traceback" not in server.output


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_program_sends_late_arrives(certificate: tuple[Path, Path], tls: bool) -> None:
    key, file = certificate
    arguments = [f"--certfile={file}", f"--keyfile={key}"] if tls else []
    with gunicorn("tests.support.flask_sock_app:answers_late", *arguments) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, sock, received = exchange(server.port, handshake("/"), tls=context if tls else None)
        sock.sendall(b"question")
        while b"late" not in received:
            try:
                data = sock.recv(100)
            except ssl.SSLError:
                data = b""
            assert data, received
            received += data
        sock.close()
        server.stop()
        assert "Traceback" not in server.output
