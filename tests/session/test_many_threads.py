"""What two threads use at once, in short bursts. Without a GIL these find what a GIL hides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from syncws import CloseReason, Session
from syncws.protocol.messages import Protocol
from syncws.session.running import run_handler
from syncws.session.units import messages_in_units

from ..conftest import MakeSession
from ..support.background import Background
from ..support.pairs import PATIENCE, Peer, frame

ROUNDS = 50


@contextmanager
def meanwhile(look: Callable[[], object]) -> Iterator[None]:
    """Another thread calls ``look()`` again and again, from before the block until after it."""
    began, over = threading.Event(), threading.Event()

    def run() -> None:
        while True:
            look()
            began.set()
            if over.is_set():
                return

    looking = Background(run)
    try:
        assert began.wait(PATIENCE)
        yield
    finally:
        over.set()
        looking.result()


@pytest.mark.parametrize("kind", [1, 2])
def test_the_size_of_an_unfinished_message_while_another_thread_parses_it(kind: int) -> None:
    """What keeps the parts of a message is replaced at its end, by the thread that parses."""
    protocol = Protocol(client=False, max_message_size=1000)
    parts = [frame(kind, b"12345", fin=False), frame(0, b"6"), frame(kind, b"whole")]
    whole = (b"123456", b"whole") if kind == 2 else ("123456", "whole")
    seen = set()
    with meanwhile(lambda: seen.add(protocol.kept_size)):
        for _ in range(60 * ROUNDS):
            for part in parts:
                for piece in (part[:9], part[9:]):
                    protocol.receive_data(piece)
                    event = protocol.next_event()
                    assert event in (None, *whole)
    assert max(seen) <= 6


def test_whether_reading_has_stopped_while_another_thread_receives(
    session_and_peer: tuple[Session, Peer],
) -> None:
    session, peer = session_and_peer
    reader = session._reader

    def look() -> None:
        assert not reader.reading_stopped
        assert not reader.waits_for_handler
        _ = reader.has_unparsed, reader.caught_up_at

    message = frame(1, b"ab", fin=False) + frame(0, b"c")

    def send() -> None:
        for _ in range(10 * ROUNDS):
            peer.socket.sendall(message)

    sending = Background(send)
    with meanwhile(look):
        for _ in range(10 * ROUNDS):
            assert session.receive(PATIENCE) == "abc"
    sending.result()


def test_the_closes_of_both_sides_cross(make_session: MakeSession) -> None:
    """One thread notes that ours has been written, another one that the peer's has arrived:
    neither may overlook the other's, or the end would come only with the deadline."""
    for _ in range(ROUNDS):
        session, peer = make_session(close_timeout=100 * PATIENCE)
        receiving = Background(session.receive)
        both = threading.Barrier(2)

        def close(peer: Peer = peer, both: threading.Barrier = both) -> None:
            both.wait(PATIENCE)
            peer.send_close()

        closing = Background(close)
        both.wait(PATIENCE)
        session._start_closing(CloseReason(1000, "", "local"))
        assert session.wait_closed(PATIENCE).code == 1000
        closing.result()
        assert isinstance(receiving.error(), Exception)


def test_units_in_a_thread_that_a_handler_starts(make_session: MakeSession) -> None:
    """They are that thread's own, whichever context it has inherited: the handler's end leaves
    them alone."""
    ended: list[str] = []

    @contextmanager
    def unit(name: str) -> Iterator[None]:
        yield
        ended.append(name)

    for _ in range(ROUNDS):
        ended.clear()
        session, _ = make_session(received=frame(1, b"1") * 2, ping_interval=None)
        other, _ = make_session(received=frame(1, b"2"), ping_interval=None)
        inside, handler_over = threading.Event(), threading.Event()

        def in_thread(
            other: Session = other,
            inside: threading.Event = inside,
            over: threading.Event = handler_over,
        ) -> None:
            for message in messages_in_units(other, lambda: unit("the thread's")):
                assert message == "2"
                inside.set()
                assert over.wait(PATIENCE)
                assert ended == ["the handler's"]
                return

        threads: list[Background] = []

        def handler(
            session: Session,
            threads: list[Background] = threads,
            work: Callable[[], None] = in_thread,
            inside: threading.Event = inside,
        ) -> None:
            threads.append(Background(work))
            for _ in messages_in_units(session, lambda: unit("the handler's")):
                assert inside.wait(PATIENCE)
                return

        session.close_timeout = 0.0
        run_handler(session, handler)
        handler_over.set()
        threads[0].result()
        assert sorted(ended) == ["the handler's", "the thread's"]
