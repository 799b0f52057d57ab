"""The expiry of sessions, their latency and their ids."""

from __future__ import annotations

import math
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Session
from syncws.session import common
from syncws.system.scheduler import SCHEDULER

from ..conftest import MakeRaw, MakeSession
from ..support.background import Background, closed, wait_until
from ..support.pairs import PATIENCE, Peer

Both = tuple[Session, Peer]


def test_f5_a_session_expires_whatever_its_handler_does(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    received = Background(session.receive)
    session.expire(0.05)
    assert peer.answer_close() == (1008, "expired")
    assert closed(received) == CloseReason(1008, "expired", "local")


def test_f5_a_raw_session_expires(make_raw: MakeRaw) -> None:
    session, peer = make_raw()
    received = Background(session.receive_frame)
    session.expire(0.05, 4001, "log in again")
    assert peer.answer_close() == (4001, "log in again")
    assert received.result().opcode == syncws.Opcode.CLOSE


def test_f5_the_moment_can_be_moved_and_taken_back(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=None)
    session.expire(0.2)
    session.expire(1000)
    session.expire(math.inf)
    with pytest.raises(TimeoutError):
        session.wait_closed(0.4)
    session.expire(0.2)
    session.expire(None)
    with pytest.raises(TimeoutError):
        session.wait_closed(0.4)
    session.expire(1000)
    session.expire(-1, 4000, "now")
    assert peer.answer_close() == (4000, "now")
    assert session.wait_closed(PATIENCE).code == 4000


def test_f5_the_end_of_the_session_ends_its_expiry(make_session: MakeSession) -> None:
    session, _ = make_session()
    session.expire(1000)
    expiry = session._expiry
    assert expiry in SCHEDULER._members
    session.terminate()
    session.wait_closed(PATIENCE)
    wait_until(lambda: expiry not in SCHEDULER._members)
    session.expire(0)  # does nothing any more
    assert expiry not in SCHEDULER._members


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((math.nan,), ValueError),
        (("1",), TypeError),
        ((1, 1005), ValueError),
        ((1, 1008, 5), TypeError),
    ],
)
def test_what_can_not_be_an_expiry(
    session_and_peer: Both, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    session, _ = session_and_peer
    with pytest.raises(error):
        session.expire(*arguments)


def test_f8_latency_is_that_of_the_last_pong(make_session: MakeSession) -> None:
    session, peer = make_session(ping_interval=0.05, timeout=PATIENCE)
    assert session._pings.latency is None
    received = Background(session.receive)
    peer.pong(peer.expect_ping())
    wait_until(lambda: session.latency is not None)
    peer.send("that is all")
    assert received.result() == "that is all"
    assert session.latency is not None
    assert 0 < session.latency < PATIENCE


def test_a_session_has_an_id_for_logs(make_session: MakeSession) -> None:
    (first, _), (second, _) = make_session(), make_session()
    assert first.id != second.id
    assert first.environ["syncws.session_id"] == first.id
    assert first.id in repr(first)


def test_a_signal_handler_may_call_expire_in_the_thread_that_it_interrupts_there(
    session_and_peer: Both,
) -> None:
    session, peer = session_and_peer

    def interrupted() -> None:
        with common._MAKING_EXPIRY:
            session.expire(0)

    Background(interrupted).result()
    assert peer.answer_close() == (1008, "expired")
