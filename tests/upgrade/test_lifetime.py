"""What stays of a session that is over, and for how long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import syncws
from syncws import Session
from syncws.upgrade.application import end_response
from syncws.upgrade.respond import carry_out_upgrades

from ..support.background import wait_until
from ..support.calls import Call
from ..support.pairs import PATIENCE, frame


@pytest.mark.parametrize("raw", [False, True])
def test_a_request_leaves_nothing_to_the_garbage_collector(call: Call, raw: bool) -> None:
    class Token:
        pass

    token = Token()
    call.environ["test.token"] = token
    sessions: list[Any] = []
    upgrade: Any = syncws.WebSocketUpgrade
    application = carry_out_upgrades(
        upgrade(lambda session: sessions.append(weakref.ref(session)), raw=raw)
    )
    gc.disable()
    try:
        result = call.run(application)
        call.peer.close_socket()
        end_response(result.result(PATIENCE))
        objects = [*sessions, weakref.ref(token)]
        del result, token
        call.environ = {}

        def gone() -> bool:
            # Without the GIL, an object goes when the thread that made it runs the next time.
            call.pool.submit(int).result(PATIENCE)
            return all(each() is None for each in objects)

        wait_until(gone)
    finally:
        gc.enable()


def test_a_session_that_is_kept_is_in_its_exceptions_after_the_end(call: Call) -> None:
    sessions: list[Any] = []
    result = call.run(syncws.websocket(sessions.append))
    call.peer.close_socket()
    result.result(PATIENCE)
    for use in (sessions[0].receive, sessions[0].ping):
        with pytest.raises(syncws.ConnectionClosed) as caught:
            use()
        assert caught.value.session is sessions[0]


def test_an_ended_session_can_be_used_while_the_collector_takes_it_away(call: Call) -> None:
    """There, its parts can not name it in their exceptions any more."""
    sessions: list[Any] = []
    result = call.run(syncws.websocket(sessions.append))
    call.peer.close_socket()
    end_response(result.result(PATIENCE))
    said: list[Any] = []

    def use(session: Session) -> Iterator[None]:
        own = yield
        try:
            yield own
        finally:
            said.extend([session.try_send("bye"), list(session)])
            try:
                session.send("bye")
            except syncws.ConnectionClosed as exc:
                said.append(exc.reason.cause)

    user: Any = use(sessions[0])
    next(user)
    user.send(user)
    call.environ = {}
    sessions.clear()
    del user, result
    gc.collect()
    assert said == [False, [], "local"]


def test_a_stream_keeps_its_session_for_exceptions(call: Call) -> None:
    streams: list[Any] = []

    @syncws.websocket
    def handler(session: Session) -> None:
        streams.append(session.receive_stream())

    result = call.run(handler)
    call.peer.send_bytes(frame(2, b"beginning", fin=False))
    call.peer.expect_close()
    call.peer.close_socket()
    result.result(PATIENCE)
    assert streams[0].read1() == b"beginning"
    with pytest.raises(syncws.ConnectionClosed) as caught:
        streams[0].read1()
    assert isinstance(caught.value.session, Session)
