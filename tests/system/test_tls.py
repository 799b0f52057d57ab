"""A TLS write that has to read first, as it does before the handshake is done: no busy loop."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from syncws.system.tls import TlsTransport
from syncws.system.transport import DeadlineError

from ..support.background import Background
from ..support.pairs import PATIENCE, tcp_pair, tls_pair

Pair = tuple[TlsTransport, ssl.SSLSocket]


@pytest.fixture
def blocked(certificate: tuple[Path, Path]) -> Iterator[Pair]:
    """A transport whose write needs the client's part of the handshake, and the client."""
    key, cert = certificate
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=str(cert))
    ours, theirs = tcp_pair()
    wrapped = server.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
    peer = client.wrap_socket(theirs, server_hostname="localhost", do_handshake_on_connect=False)
    transport = TlsTransport(wrapped)
    assert transport.send_now(b"x") == 0
    yield transport, peer
    wrapped.close()
    peer.close()


def step(peer: ssl.SSLSocket) -> None:
    """As much of the client's handshake as is possible now."""
    peer.setblocking(False)
    try:
        peer.do_handshake()
    except ssl.SSLWantReadError:
        pass
    finally:
        peer.settimeout(PATIENCE)


def test_waiting_to_write_waits_for_what_the_write_needs(blocked: Pair) -> None:
    transport, peer = blocked
    assert not transport.wait(write=True, timeout=0)
    step(peer)
    assert transport.wait(write=True, timeout=PATIENCE)
    assert transport.send_now(b"x") == 0
    assert not transport.wait(write=True, timeout=0), "the rest of the handshake"
    step(peer)
    assert transport.wait(write=True, timeout=PATIENCE)
    assert transport.send_now(b"x") == 1
    assert transport.wait(write=True, timeout=PATIENCE)
    assert peer.recv(1) == b"x"


def test_send_ends_in_time(blocked: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    transport, _ = blocked
    calls = 0
    send = transport._sock.send

    def counted(data: bytes) -> int:
        nonlocal calls
        calls += 1
        return send(data)

    monkeypatch.setattr(transport._sock, "send", counted)
    begun = monotonic()
    with pytest.raises(DeadlineError):
        transport.send(b"x", b"y", 0.1)
    assert monotonic() - begun >= 0.1
    assert calls == 1


def test_send_goes_on_when_the_peer_does(blocked: Pair) -> None:
    transport, peer = blocked
    sending = Background(transport.send, b"head", b"payload", PATIENCE)
    peer.settimeout(PATIENCE)
    peer.do_handshake()
    sending.result()
    assert peer.recv(100) == b"headpayload"


def test_a_reader_that_takes_the_bytes_lets_the_write_go_on(blocked: Pair) -> None:
    transport, peer = blocked
    step(peer)
    assert transport.receive_now() is None, "it has answered the client's hello"
    assert transport.wait(write=True, timeout=PATIENCE), "nothing is left to poll() for"


def no_descriptor(*arguments: int) -> int:
    raise OSError("too many open files")


@pytest.mark.parametrize("descriptors", [True, False])
def test_a_reader_wakes_a_write_that_waits(
    blocked: Pair, monkeypatch: pytest.MonkeyPatch, descriptors: bool
) -> None:
    """The reader is quicker, so that poll() has nothing to tell the writer."""
    transport, peer = blocked
    waits = threading.Event()
    own = transport._sock.fileno()

    class Poll:
        def __init__(self) -> None:
            self._poll = original()

        def register(self, fd: int, events: int) -> None:
            if fd != own:
                self._poll.register(fd, events)

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            waits.set()
            return self._poll.poll(timeout)

    original = select.poll
    monkeypatch.setattr("syncws.system.transport.select.poll", Poll)
    if not descriptors:
        monkeypatch.setattr("os.eventfd", no_descriptor, raising=False)
        monkeypatch.setattr("os.pipe", no_descriptor)
    waiting = Background(transport.wait, write=True, timeout=PATIENCE if descriptors else 0.1)
    assert waits.wait(PATIENCE)
    step(peer)
    assert transport.receive_now() is None
    assert waiting.result() is descriptors
    assert not transport._blocked_writers


def test_a_shutdown_ends_the_wait(blocked: Pair) -> None:
    transport, _ = blocked
    waiting = Background(transport.wait, write=True, timeout=PATIENCE)
    transport.shutdown()
    assert waiting.result()
    assert not transport._blocked_writers


def test_a_read_that_has_to_write_first_waits_for_room(
    blocked: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, _ = blocked

    def wants_write(size: int) -> bytes:
        raise ssl.SSLWantWriteError

    monkeypatch.setattr(transport._sock, "recv", wants_write)
    assert transport.receive_now() is None
    assert transport.wait(read=True, timeout=PATIENCE), "there is room"
    monkeypatch.undo()
    assert transport.receive_now() is None
    assert not transport.wait(read=True, timeout=0)


def test_waiting_for_neither_direction_is_waiting_for_the_wake_up(blocked: Pair) -> None:
    transport, _ = blocked
    wake, waker = socket.socketpair()
    with wake, waker:
        assert not transport.wait(timeout=0, wake=wake.fileno())
        waker.send(b"!")
        assert transport.wait(write=True, timeout=PATIENCE, wake=wake.fileno())


class Counting(TlsTransport):
    """Counts the looks that find nothing, and the waits. ``peer_sends()`` is called before each."""

    def __init__(self, sock: ssl.SSLSocket, peer_sends: Callable[[], object]) -> None:
        super().__init__(sock)
        self.vain = self.waits = 0
        self._peer_sends = peer_sends

    def receive_now(self, expected: int = 0) -> bytes | None:
        data = super().receive_now(expected)
        self.vain += data is None
        return data

    def wait(self, **options: Any) -> bool:
        self.waits += 1
        self._peer_sends()
        return super().wait(**options)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_read_waits_first_unless_the_peer_sends_faster_than_it_is_read(
    timeout: float | None, certificate: tuple[Path, Path]
) -> None:
    ours, theirs = tls_pair(certificate)
    with ours, theirs:
        assert isinstance(ours, ssl.SSLSocket)
        transport = Counting(ours, lambda: theirs.send(b"one at a time"))
        for _ in range(100):
            assert transport.receive(timeout) == b"one at a time"
        assert transport.waits == 100
        assert transport.vain <= 100 // 16 + 2

        for _ in range(200):
            theirs.send(b"many at a time")
        transport = Counting(ours, lambda: None)
        transport._reads_that_wait = 16
        for _ in range(200):
            assert transport.receive(timeout) == b"many at a time"
        assert transport.waits == 16
        assert transport.vain == 0
