from __future__ import annotations

import errno
import fcntl
import socket
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncws.system.tls import make_transport
from syncws.system.transport import SMALL_READ_SIZE, BrokenError, DeadlineError, Transport

from ..support import faults
from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE, tcp_pair, tls_pair

Pair = tuple[Transport, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = tcp_pair()
    yield make_transport(ours), theirs
    ours.close()
    theirs.close()


def test_receive(pair: Pair) -> None:
    transport, peer = pair
    peer.sendall(b"one")
    assert transport.receive(None) == b"one"
    peer.sendall(b"two")
    assert transport.receive(PATIENCE) == b"two"
    assert transport.received == 6


def _unread(transport: Transport) -> int:
    """How many bytes have arrived."""
    answer = fcntl.ioctl(transport._sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


@pytest.mark.parametrize("size", [1500, 3000, 40_000])
def test_messages_of_one_size_are_soon_read_whole(pair: Pair, size: int) -> None:
    """An idle session asks for little, because Python allocates what is asked for."""
    transport, peer = pair
    reads: list[list[int]] = []
    for _ in range(4):
        peer.sendall(b"x" * size)
        wait_until(lambda: _unread(transport) == size)
        reads.append([])
        while sum(reads[-1]) < size:
            # The protocol knows the size when it has the header.
            expected = size - sum(reads[-1]) if reads[-1] else 0
            reads[-1].append(len(transport.receive(None, expected)))
    assert reads[0][0] == SMALL_READ_SIZE
    assert reads[3] == [size]
    for received in (b"short", b"and another"):
        peer.sendall(received)
        assert transport.receive(PATIENCE) == received
    assert transport._next_size(0) == SMALL_READ_SIZE


def test_receive_in_vain(pair: Pair) -> None:
    transport, peer = pair
    assert transport.receive_now() is None
    for timeout in (0, 0.01):
        with pytest.raises(DeadlineError):
            transport.receive(timeout)
    peer.sendall(b"late")
    assert transport.receive(0) == b"late", "nothing was lost"


def test_end_of_file(pair: Pair) -> None:
    transport, peer = pair
    faults.end_of_file(peer)
    assert transport.receive(None) == b""
    assert transport.receive(0) == b""
    assert transport.receive_now() == b""


def test_reset(pair: Pair) -> None:
    transport, peer = pair
    faults.reset(peer)
    with pytest.raises(BrokenError) as caught:
        transport.receive(PATIENCE)
    assert caught.value.errno == errno.ECONNRESET
    with pytest.raises(BrokenError, match="Broken pipe"):
        transport.send(b"", b"x", PATIENCE)


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_shutdown_wakes_the_reader(pair: Pair, timeout: float | None) -> None:
    transport, _ = pair
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(transport.receive(timeout)))
    reader.start()
    transport.shutdown()
    reader.join(PATIENCE)
    assert received == [b""]


def test_send_more_than_fits(pair: Pair) -> None:
    transport, peer = pair
    data = bytes(range(256)) * 40_000
    sender = threading.Thread(target=transport.send, args=(b"head", data, PATIENCE))
    sender.start()
    received = bytearray()
    data = b"head" + data
    while len(received) < len(data):
        received += peer.recv(1 << 20)
    sender.join(PATIENCE)
    assert received == data
    assert transport.sent == len(data)


@pytest.mark.parametrize("tls", [False, True])
def test_progress_is_what_the_peers_system_acknowledges(
    certificate: tuple[Path, Path], tls: bool
) -> None:
    """Also while one large write goes on, which TLS counts as sent only at its end."""
    ours, peer = tls_pair(certificate) if tls else tcp_pair()
    transport = make_transport(ours)
    sending = Background(transport.send, b"", bytes(20_000_000), PATIENCE)
    wait_until(lambda: not transport.wait(write=True, timeout=0.05))
    before, left = transport.progress(), 1_000_000
    while left > 0:
        left -= len(peer.recv(100_000))
    wait_until(lambda: transport.progress() >= before + 500_000)
    assert not tls or transport.sent == 0, "it would have been easy"
    transport.shutdown()
    assert isinstance(sending.error(), BrokenError)
    ours.close()
    peer.close()
    assert transport.progress() == transport.sent, "and closed, it fails nobody"


def test_send_to_a_peer_that_does_not_read(pair: Pair) -> None:
    transport, peer = pair
    faults.stall(peer)
    with pytest.raises(DeadlineError):
        transport.send(b"", b"x" * 20_000_000, 0.05)
    assert 0 < transport.sent < 20_000_000


def test_shutdown_wakes_the_sender(pair: Pair) -> None:
    transport, peer = pair
    faults.stall(peer)
    failures: list[BaseException] = []
    started = threading.Event()

    def send() -> None:
        started.set()
        try:
            transport.send(b"", b"x" * 20_000_000, PATIENCE)
        except BrokenError as exc:
            failures.append(exc)

    sender = threading.Thread(target=send)
    sender.start()
    started.wait(PATIENCE)
    transport.shutdown()
    sender.join(PATIENCE)
    assert isinstance(failures[0], BrokenError)


def test_wait_for_a_wake_up(pair: Pair) -> None:
    transport, _ = pair
    wake, waker = socket.socketpair()
    with wake, waker:
        assert not transport.wait(read=True, timeout=0, wake=wake.fileno())
        waker.send(b"!")
        assert transport.wait(read=True, timeout=PATIENCE, wake=wake.fileno())
    assert transport.wait(write=True, timeout=PATIENCE)
    assert not transport.wait(read=True, timeout=-1)


def test_a_reset_does_not_end_a_wait_for_neither_direction(pair: Pair) -> None:
    transport, peer = pair
    faults.reset(peer)
    assert transport.wait(read=True, timeout=PATIENCE)
    assert not transport.wait(timeout=0.01)


def test_readable(pair: Pair) -> None:
    transport, peer = pair
    assert not transport.readable()
    peer.sendall(b"x")
    assert transport.wait(read=True, timeout=PATIENCE)
    assert transport.readable()


def test_shutdown_write(pair: Pair) -> None:
    transport, peer = pair
    transport.shutdown_write()
    peer.settimeout(PATIENCE)
    assert peer.recv(1) == b""
    peer.sendall(b"still heard")
    assert transport.receive(PATIENCE) == b"still heard"


def test_socket_is_never_closed(pair: Pair) -> None:
    transport, _ = pair
    transport.shutdown()
    transport.shutdown()
    transport.shutdown_write()
    assert transport._sock.fileno() >= 0


def test_closed_by_the_server() -> None:
    ours, theirs = tcp_pair()
    transport = make_transport(ours)
    ours.close()
    theirs.close()
    transport.shutdown()
    for act in (transport.receive_now, lambda: transport.receive(0)):
        with pytest.raises(BrokenError, match="Bad file descriptor"):
            act()
