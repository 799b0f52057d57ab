from __future__ import annotations

from concurrent.futures import Future

import pytest

from syncws.session.pings import MAX_OUTSTANDING, Pings


def test_a_pong_answers_its_ping_and_those_before() -> None:
    pings = Pings()
    futures: list[Future[float]] = [Future() for _ in range(3)]
    payloads = [pings.new(future) for future in futures]
    assert not pings.answered(b"unsolicited")
    assert pings.answered(payloads[1])
    assert not any(future.done() for future in futures), "not before publish()"
    pings.publish()
    assert [future.done() for future in futures] == [True, True, False]
    assert not pings.answered(payloads[0]), "only once"


def test_keepalive_has_no_future() -> None:
    pings = Pings()
    payload = pings.new()
    waiting = pings.oldest_keepalive()
    assert waiting is not None
    assert waiting.payload == payload
    assert not pings.answered(payload), "nothing to publish"
    assert pings.oldest_keepalive() is None
    future: Future[float] = Future()
    pings.new(future)
    pings.new()
    pings.forget_keepalive()
    assert pings.oldest_keepalive() is None
    pings.forget(pings.new())
    assert pings.oldest_keepalive() is None


def test_outstanding_pings_are_bounded() -> None:
    pings = Pings()
    futures: list[Future[float]] = [Future() for _ in range(MAX_OUTSTANDING + 1)]
    for future in futures:
        pings.new(future)
    pings.publish()
    with pytest.raises(TimeoutError, match="no answer"):
        futures[0].result(0)
    assert not futures[1].done()


def test_the_ping_that_keepalive_counts_from_is_never_forgotten() -> None:
    pings = Pings()
    pings.new(Future())
    first = pings.new()
    for _ in range(2 * MAX_OUTSTANDING):
        pings.new()
        pings.new(Future())
    waiting = pings.oldest_keepalive()
    assert waiting is not None
    assert waiting.payload == first


def test_fail_all() -> None:
    pings = Pings()
    future: Future[float] = Future()
    pings.new(future)
    pings.new()
    pings.fail_all(EOFError("over"))
    pings.publish()
    assert isinstance(future.exception(0), EOFError)
