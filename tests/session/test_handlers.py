"""Generators and iterators as handlers."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Session

from ..conftest import MakeSession
from ..support import faults
from ..support.background import Background
from ..support.pairs import PATIENCE, Peer

Both = tuple[Session, Peer]


def run(session: Session, handler: Any) -> Background:
    return Background(session.run, handler)


class Coroutine:
    async def __call__(self, session: Session) -> None: ...


async def coroutine(session: Session) -> None: ...


def generator(session: Session) -> Iterator[None]:
    session.send("never")
    yield


def test_what_nobody_would_run_is_refused(session_and_peer: Both) -> None:
    session, _ = session_and_peer
    for take in (syncws.websocket, syncws.WebSocketUpgrade, session.run):
        for handler in (coroutine, Coroutine()):
            with pytest.raises(TypeError, match="remove 'async'"):
                take(handler)
        with pytest.raises(TypeError, match=r"@syncws\.stream right above"):
            take(generator)
    with pytest.raises(TypeError, match="remove 'async'"):
        syncws.stream(Coroutine())  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="give the function that makes it"):
        syncws.exchange(send=iter(["once"]), receive=print)


# run


def test_c15_run_runs_a_handler_and_ends_the_session(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    seen = []

    def handler(same: Session) -> None:
        seen.append(same)
        same.send("hello")

    running = run(session, handler)
    assert peer.receive() == "hello"
    assert peer.answer_close() == (1000, "")
    running.result()
    assert seen == [session]
    assert session.wait_closed(PATIENCE) == CloseReason(1000, "", "local")


def test_c15_run_logs_what_a_handler_raises(
    session_and_peer: Both, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = session_and_peer

    def handler(session: Session) -> None:
        raise LookupError("as it was told")

    running = run(session, handler)
    assert peer.answer_close() == (1011, "")
    running.result()
    assert len(caplog.records) == 1
    assert "as it was told" in caplog.text


# stream


def test_a5_stream_turns_messages_into_answers(session_and_peer: Both) -> None:
    session, peer = session_and_peer

    @syncws.stream
    def shout(messages: Iterator[str]) -> Iterator[str | None]:
        yield "welcome"
        for message in messages:
            yield message.upper() if message else None

    running = run(session, shout)
    assert peer.receive() == "welcome"
    for message in ("one", "", "two"):
        peer.send(message)
    assert peer.receive() == "ONE"
    assert peer.receive() == "TWO", "None is not sent"
    peer.send_close(1001)
    assert peer.expect_close() == (1001, "")
    running.result()


def test_what_was_received_before_the_close_is_streamed(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    seen: list[str] = []
    closed = threading.Event()

    @syncws.stream
    def sink(messages: Iterator[str]) -> Iterator[None]:
        for message in messages:
            seen.append(message)
            assert closed.wait(PATIENCE)
            yield None

    running = run(session, sink)
    for message in "1234":
        peer.send(message)
    peer.send_close()
    assert peer.expect_close()[0] == 1000  # by who stands in for the handler
    closed.set()
    running.result()
    assert seen == ["1", "2", "3", "4"]


def test_a7_a_stream_that_ends_closes_and_loses_nothing(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    running = run(session, syncws.stream(lambda messages: ["one", b"two"]))
    assert peer.receive() == "one"
    assert peer.receive() == b"two"
    assert peer.answer_close() == (1000, "")
    peer.expect_end()
    running.result()


def test_a9_a_close_reason_in_the_stream_closes_with_it(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    ended = threading.Event()

    @syncws.stream
    def answers(messages: Iterator[str]) -> Iterator[Any]:
        try:
            yield "last"
            yield CloseReason(4001, "done")
            yield "never"
        finally:
            ended.set()

    running = run(session, answers)
    assert peer.receive() == "last"
    assert peer.answer_close() == (4001, "done")
    running.result()
    assert ended.is_set()
    assert session.wait_closed(PATIENCE) == CloseReason(4001, "done", "local")


def test_a10_what_came_before_the_close_is_still_answered(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = []

    @syncws.stream
    def collect(messages: Iterator[str]) -> Iterator[str]:
        for message in messages:
            received.append(message)
        yield "too late"

    for number in range(5):
        peer.send(str(number))
    peer.send_close()
    run(session, collect).result()
    assert received == ["0", "1", "2", "3", "4"]
    assert peer.expect_close() == (1000, ""), "our reply is sent"
    assert session.wait_closed(PATIENCE).cause == "peer"


def test_a5_a_stream_that_raises_is_a_handler_that_raises(
    session_and_peer: Both, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = session_and_peer

    @syncws.stream
    def fails(messages: Iterator[str]) -> Iterator[str]:
        yield "one"
        raise LookupError("as it was told")

    running = run(session, fails)
    assert peer.receive() == "one"
    assert peer.answer_close() == (1011, "")
    running.result()
    assert "as it was told" in caplog.text


def test_a5_a_generator_is_closed_when_the_peer_has_gone(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    closed = threading.Event()

    @syncws.stream
    def endless(messages: Iterator[str]) -> Iterator[str]:
        try:
            while True:
                yield "tick"
        finally:
            closed.set()

    running = run(session, endless)
    peer.receive()
    peer.close_socket()
    running.result()
    assert closed.is_set()


def test_stream_refuses_what_is_no_plain_function() -> None:
    async def answers(messages: Any) -> Any:
        yield "x"

    with pytest.raises(TypeError, match="plain function"):
        syncws.stream(answers)
    with pytest.raises(TypeError, match="a handler is a function"):
        syncws.stream(None)  # type: ignore[arg-type]  # as a user might


# exchange


def test_a6_exchange_runs_both_directions_at_once(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    outgoing: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    received: queue.SimpleQueue[Any] = queue.SimpleQueue()
    running = run(
        session,
        syncws.exchange(send=lambda: iter(outgoing.get, None), receive=received.put),
    )
    outgoing.put("ours first")
    assert peer.receive() == "ours first"
    peer.send("theirs first")
    assert received.get(timeout=PATIENCE) == "theirs first"
    peer.send("theirs second")
    assert received.get(timeout=PATIENCE) == "theirs second"
    outgoing.put("ours second")
    assert peer.receive() == "ours second"
    # The source ends; the session goes on until the peer's messages end.
    outgoing.put(None)
    peer.send("after the end of the source")
    assert received.get(timeout=PATIENCE) == "after the end of the source"
    peer.send_close()
    assert peer.expect_close() == (1000, "")
    running.result()


def test_a6_a_plain_iterable_is_sent(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received: list[Any] = []
    running = run(session, syncws.exchange(send=["one", None, b"two"], receive=received.append))
    assert (peer.receive(), peer.receive()) == ("one", b"two")
    peer.send("three")
    peer.send_close()
    running.result()
    assert received == ["three"]


def test_a6_the_peers_close_ends_the_source(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    closed = threading.Event()

    def ticks() -> Iterator[str | None]:
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            while True:
                try:
                    yield waiting.get(timeout=0.01)
                except queue.Empty:
                    yield None
        finally:
            closed.set()

    running = run(session, syncws.exchange(send=ticks, receive=print))
    peer.send_close()
    running.result()
    assert closed.is_set()
    assert session.wait_closed(PATIENCE).cause == "peer"


def test_a6_a_source_that_can_not_be_ended_is_given_up(
    make_session: MakeSession, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = make_session(close_timeout=0.1)
    stuck: queue.SimpleQueue[None] = queue.SimpleQueue()
    running = run(session, syncws.exchange(send=lambda: iter(stuck.get, None), receive=print))
    peer.send_close()
    running.result()
    assert "let it wait with a timeout" in caplog.text
    stuck.put(None)


@pytest.mark.parametrize("side", ["send", "receive"])
def test_a6_either_side_raising_ends_the_other(
    session_and_peer: Both, caplog: pytest.LogCaptureFixture, side: str
) -> None:
    session, peer = session_and_peer
    closed = threading.Event()

    def source() -> Iterator[str | None]:
        try:
            yield "begun"
            if side == "send":
                raise LookupError("as it was told")
            while True:
                yield None
        finally:
            closed.set()

    def sink(message: str) -> None:
        raise LookupError("as it was told")

    running = run(session, syncws.exchange(send=source, receive=sink))
    assert peer.receive() == "begun"
    if side == "receive":
        peer.send("x")
    assert peer.answer_close() == (1011, "")
    running.result()
    assert closed.is_set()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "as it was told" in caplog.text


def test_a9_a_close_reason_ends_an_exchange(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received: list[Any] = []
    running = run(
        session, syncws.exchange(send=[CloseReason(4000, "over")], receive=received.append)
    )
    assert peer.expect_close() == (4000, "over")
    peer.send_close(4000)
    running.result()


def test_exchange_refuses_what_can_not_be() -> None:
    with pytest.raises(TypeError, match="send is an iterable"):
        syncws.exchange(send=None, receive=print)  # type: ignore[arg-type]  # as a user might
    with pytest.raises(TypeError, match="a handler is a function"):
        syncws.exchange(send=[], receive=None)  # type: ignore[arg-type]  # as a user might


@pytest.mark.parametrize(("fault", "cause"), [(faults.reset, "error"), (faults.end_of_file, "eof")])
def test_a11_the_end_is_told_on_every_kind_of_failure(
    session_and_peer: Both, fault: Any, cause: str
) -> None:
    session, peer = session_and_peer
    told: list[CloseReason] = []
    listener = syncws.callbacks(on_close=lambda session, process, reason: told.append(reason))
    running = run(session, listener)
    fault(peer.socket)
    running.result()
    assert [reason.cause for reason in told] == [cause]
    assert session.close_reason.result(PATIENCE) == told[0]
