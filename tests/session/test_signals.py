"""``close()`` in a signal handler, at each step around the locks of the call that it interrupts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest

import syncws
from syncws.session import attending
from syncws.session.reader import Reader
from syncws.session.writer import Writer

from ..conftest import MakeSession
from ..support.pairs import PATIENCE
from ..support.serving import echo
from ..support.steps import at_step

pytestmark = pytest.mark.skipif(
    syncws.__compiled__, reason="compiled code has no steps: no signal handler runs inside it"
)


def receive(session: syncws.Session) -> None:
    session.send("hello")
    session.receive(PATIENCE)


def send(session: syncws.Session) -> None:
    session.send("hello")


def offer(session: syncws.Session) -> None:
    session._writer.offer(syncws.PreparedMessage("hello"), 1)


@pytest.mark.parametrize(
    ("call", "inside"), [(receive, Reader._receive), (send, Writer.send), (offer, Writer.offer)]
)
def test_close_never_waits_for_the_call_that_it_interrupts(
    call: Callable[[syncws.Session], None], inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, the ping thread might read the echo before receive() does.
    monkeypatch.setattr(attending, "STAND_IN_AFTER", PATIENCE / 3)

    def calling(session: syncws.Session) -> None:
        with contextlib.suppress(syncws.ConnectionClosed):
            call(session)

    with syncws.serve(echo, "127.0.0.1") as server:
        for number in count():
            url = f"ws://127.0.0.1:{server.port}/"
            with syncws.connect(url, close_timeout=6 * PATIENCE) as session:
                # at_step() waits for less than close_timeout.
                steps = at_step(number, session.close, partial(calling, session), inside.__code__)
                if not steps:
                    break
                assert session.wait_closed(PATIENCE).code == 1000
    assert number > 20


def close(session: syncws.Session) -> None:
    session._start_closing(syncws.CloseReason(1001, "", "shutdown"))


class RaisedByHandler(Exception):
    pass


@pytest.mark.parametrize("call", [close, offer, send])
def test_no_frame_is_written_twice_after_a_signal_handler_has_raised(
    make_session: MakeSession, call: Callable[[syncws.Session], None]
) -> None:
    def interrupt() -> None:
        raise RaisedByHandler

    for number in count():
        session, peer = make_session(ping_interval=None)
        inside = type(session._transport).send_now.__code__
        try:
            at_step(number, interrupt, partial(call, session), inside)
        except RaisedByHandler:
            close(session)  # as the interpreter does at its exit
            assert session.close_reason.result(PATIENCE).code in (1001, 1006)
        else:
            break
        written = b""
        while data := peer.socket.recv(65536):
            written += data
        assert written.count(b"\x88\x02\x03\xe9") <= 1
        assert written.count(b"hello") <= 1
    assert number > 5
