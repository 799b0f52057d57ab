"""One TLS session and many threads: no message gets lost, mixed up or stuck."""

from __future__ import annotations

import random
import select
import ssl
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping

import syncws
from syncws import Session

from ..conftest import MakeSession
from ..support.pairs import PATIENCE, Peer, tls_pair

SENDERS = 5
SMALLEST, LARGEST = 1, 1024 * 1024

pytestmark = pytest.mark.usefixtures("quick_stand_in")


@cache
def _noise(sender: int) -> bytes:
    return random.Random(sender).randbytes(LARGEST)


def message(sender: int, number: int) -> bytes:
    """A sender's message. The first byte identifies the sender, and the number determines the rest.

    The sizes are from 1 byte to 1 MiB. Half of them are below 1 KiB.
    """
    chance = random.Random(sender << 32 | number)
    size = int(SMALLEST * (LARGEST / SMALLEST) ** chance.random())
    start = chance.randrange(LARGEST - size + 1)
    return bytes([sender]) + _noise(sender)[start : start + size - 1]


class EchoingPeer:
    """A peer that sends each message back, and answers pings and the Close. It never waits for
    room to send, so the two ends can not block each other for ever.
    """

    def __init__(self, peer: Peer) -> None:
        assert isinstance(peer.socket, ssl.SSLSocket)
        self._socket = peer.socket
        self._socket.setblocking(False)
        self._protocol = peer.protocol
        self._parts: list[bytes] = []
        #: How many messages were received from each sender, whole and in order.
        self.received: Counter[int] = Counter()

    def run(self) -> None:
        """Until the end of the stream."""
        out = memoryview(b"")
        waiting: list[bytes] = []
        poll = select.poll()
        while True:
            while not out and waiting:
                out = memoryview(waiting.pop(0))
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if out else 0))
            assert self._socket.pending() or poll.poll(PATIENCE * 1000), "nothing goes on"
            try:
                data = self._socket.recv(65536)
            except ssl.SSLWantReadError:
                pass
            except ConnectionResetError:
                return  # our answer to the Close crossed the end
            else:
                if not data:
                    return
                self._protocol.receive_data(data)
                waiting.extend(self._answers())
            try:
                out = out[self._socket.send(out) :] if out else out
            except ssl.SSLWantWriteError:
                pass
            except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                return  # as above

    def _answers(self) -> list[bytes]:
        answers = []
        for event in self._protocol.events():
            if isinstance(event, BytesMessage):
                self._parts.append(bytes(event.data))
                if event.message_finished:
                    whole = b"".join(self._parts)
                    self._parts.clear()
                    sender = whole[0]
                    assert whole == message(sender, self.received[sender]), "corrupted"
                    self.received[sender] += 1
                    answers.append(self._protocol.send(BytesMessage(whole)))
            elif isinstance(event, Ping):
                answers.append(self._protocol.send(event.response()))
            elif isinstance(event, CloseConnection):
                assert self._protocol.state is ConnectionState.REMOTE_CLOSING
                answers.append(self._protocol.send(event.response()))
        return answers


class Stress:
    """The work of the threads on the session's side."""

    def __init__(self, session: Session, messages: int) -> None:
        self.session = session
        self.messages = messages
        self.received: Counter[tuple[int, int]] = Counter()
        self._lock = threading.Lock()
        #: Set when the receivers have received all messages.
        self.all_received = threading.Event()
        self.pongs = 0

    def send(self, sender: int) -> int:
        """Send all messages of one sender. Returns how many were sent."""
        for number in range(self.messages):
            try:
                self.session.send(message(sender, number))
            except syncws.ConnectionClosed:
                return number
        return self.messages

    def receive(self) -> None:
        """Receive messages. Several threads run this, and only one at a time can receive."""
        while not self.all_received.is_set():
            try:
                data = self.session.receive(0.01)
            except TimeoutError:
                continue
            except syncws.ConcurrencyError:
                # The other receiver is in receive(). Trying again without a pause would keep the
                # interpreter from all other threads.
                self.all_received.wait(0.01)
                continue
            except syncws.ConnectionClosed:
                return
            assert isinstance(data, bytes)
            with self._lock:
                self.received[len(data), zlib.crc32(data)] += 1
                if self.received.total() == SENDERS * self.messages:
                    self.all_received.set()

    def ping(self) -> None:
        """Send pings and wait for their pongs. Several threads run this."""
        while not self.all_received.is_set():
            try:
                assert self.session.ping().result(PATIENCE) > 0
            except syncws.ConnectionClosed:
                return
            with self._lock:
                self.pongs += 1


@contextmanager
def running(stress: Stress, echo: EchoingPeer) -> Iterator[list[Future[int]]]:
    """Run all threads. Yields futures for the senders' counts. No thread may end with an error."""
    with ThreadPoolExecutor(20) as pool:
        others: list[Future[None]] = [pool.submit(echo.run)]
        others += [pool.submit(stress.receive) for _ in range(2)]
        others += [pool.submit(stress.ping) for _ in range(2)]
        try:
            yield [pool.submit(stress.send, sender) for sender in range(SENDERS)]
        finally:
            stress.session.terminate()
        for future in others:
            future.result()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("messages", [20, pytest.param(1000, marks=pytest.mark.load)])
def test_many_threads_on_one_session(
    make_session: MakeSession, certificate: tuple[Path, Path], messages: int
) -> None:
    session, peer = make_session(
        sockets=tls_pair(certificate), ping_interval=0.5, timeout=6 * PATIENCE
    )
    stress, echo = Stress(session, messages), EchoingPeer(peer)
    with running(stress, echo) as sent, ThreadPoolExecutor(3) as pool:
        assert [future.result() for future in sent] == [messages] * SENDERS
        assert stress.all_received.wait(20 * PATIENCE)
        # Several threads close the session, and each finds it closed afterwards.
        for future in [pool.submit(session.close, 4000 + number) for number in range(3)]:
            future.result()
    reason = session.wait_closed(PATIENCE)
    assert (reason.code in (4000, 4001, 4002), reason.cause) == (True, "local")
    expected: Counter[tuple[int, int]] = Counter()
    for sender in range(SENDERS):
        assert echo.received[sender] == messages
        for number in range(messages):
            data = message(sender, number)
            expected[len(data), zlib.crc32(data)] += 1
    assert stress.received == expected
    assert stress.pongs > 0


@pytest.mark.parametrize("end", [Session.close, Session.terminate])
def test_ended_in_the_middle_of_it(
    make_session: MakeSession, certificate: tuple[Path, Path], end: Callable[[Session], None]
) -> None:
    session, peer = make_session(
        sockets=tls_pair(certificate), ping_interval=0.5, timeout=6 * PATIENCE
    )
    stress, echo = Stress(session, 1_000_000), EchoingPeer(peer)
    with running(stress, echo) as sent:
        session.ping().result(PATIENCE)
        end(session)
        counts = [future.result() for future in sent]
    reason = session.wait_closed(PATIENCE)
    assert reason.cause == "local"
    if end is Session.close:
        assert reason.code == 1000
        assert [echo.received[sender] for sender in range(SENDERS)] == counts, (
            "nothing sent is lost"
        )
