"""Every blocking call, combined with every fault that can happen while it blocks.

The rows are in ``CALLS`` and the columns in ``FAULTS`` (``fault_scenes.py``). Each call is
tested with each fault, with and without TLS, and with the call before and after the fault.
Each call must end. If the session ends, the call raises the exception for that
end; if the session goes on, the call gives its usual result. The fixtures check
that nothing is left afterwards.

The peer does only what the fault says: in most of them it does not read, and it answers neither
pings nor a Close.
"""

from __future__ import annotations

import gc
import queue
import signal
import socket
import ssl
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Options, Session
from syncws.session.opening import Opening
from syncws.system.tls import make_transport

from ..conftest import MakeSession
from ..support.background import Background
from ..support.pairs import PATIENCE, Peer, tcp_pair, tls_pair
from .fault_scenes import (
    CALLS,
    FAULTS,
    SHORT,
    SLOW,
    STEADY,
    Call,
    Fault,
    Scene,
    ends,
    no_descriptor_left,
)


def check_exception(error: BaseException | None, session: Session) -> CloseReason:
    """Check that the type of the exception fits its reason."""
    assert isinstance(error, syncws.ConnectionClosed), repr(error)
    assert error.session is session
    if error.reason.code in (1000, 1001, 1005):
        assert type(error) is syncws.ConnectionClosedOK
    elif error.reason.cause == "send_timeout":
        assert type(error) is syncws.SendTimeoutError
    else:
        assert type(error) is syncws.ConnectionClosedError
    return error.reason


class InMainThread:
    """Calls of the main thread that another thread asks for, one after the other."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def call(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Ask the main thread for this call."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - the asking thread looks at it
                future.set_exception(error)

        self._asked.put(run)
        return future

    def serve(self, check: Callable[[], None]) -> None:
        """Make ``check`` in another thread, and the calls that it asks for in this one."""

        def check_and_end() -> None:
            try:
                check()
            finally:
                self._asked.put(None)

        checking = Background(check_and_end)
        while (asked := self._asked.get()) is not None:
            asked()
        checking.result()


Start = Callable[..., "Background | Future[Any]"]


def outcome(call: Background | Future[Any]) -> tuple[Any, BaseException | None]:
    """What it gave, and what it raised."""
    error = call.error() if isinstance(call, Background) else call.exception(PATIENCE)
    return (call.result(PATIENCE) if error is None else None), error


def check_end(scene: Scene, call: Call, fault: Fault, struck_first: bool, start: Start) -> None:
    """Make the call, let the fault happen, and check the results of both."""
    session, peer = scene.session, scene.peer
    possible = fault.ends
    if call.writes:
        possible |= fault.ends_of_writers
    if call.timed and fault.reads:
        possible |= ends((1006, "send_timeout"))
    gives_up = call.timed and (1006, "send_timeout") in possible
    if isinstance(peer.socket, ssl.SSLSocket):
        possible |= fault.ends_of_tls
    # If the fault ends the session, the call's own timeout must not come first.
    timeout = PATIENCE if possible and not gives_up else SHORT
    if struck_first:
        fault.strike(scene)
    background = start(call.run, session, timeout)
    if not struck_first:
        call.blocks(session, peer)
        fault.strike(scene)

    if call.closes:
        assert outcome(background) == (None, None)
        # The first reason is kept.
        possible = possible | {(1000, "local")} if struck_first else ends((1000, "local"))
        reason = session.wait_closed(PATIENCE)
    elif possible:
        reason = session.wait_closed(PATIENCE)
        if call.run == Session.wait_closed:
            assert outcome(background) == (reason, None)
        else:
            assert check_exception(outcome(background)[1], session) == reason
    else:
        if call.in_vain is not None:
            assert isinstance(outcome(background)[1], call.in_vain)
        elif call.writes:
            with pytest.raises(TimeoutError):
                session.wait_closed(STEADY * 1.5)
            assert session._writer.write_lock.locked(), "it was too quick to show anything"
        # The session goes on, and nothing is lost.
        assert not session.close_reason.done()
        scene.hurry.set()
        if call.writes:
            assert outcome(background) == (None, None)
        if call.in_vain is None and not call.writes:
            assert outcome(background) == (SLOW, None)
        else:
            assert session.receive(PATIENCE) == SLOW
        return

    assert (reason.code, reason.cause) in possible
    # The reason does not change any more.
    for again in (lambda: session.receive(PATIENCE), lambda: session.send("x"), session.ping):
        with pytest.raises(syncws.ConnectionClosed) as caught:
            again()
        assert check_exception(caught.value, session) == reason
    session.close()
    session.terminate()
    assert session.wait_closed(0) == reason


def check_end_by_signal(scene: Scene, call: Call, fault: Fault, struck_first: bool) -> None:
    """The same with the call in the main thread, which the signal interrupts."""
    main, handler = InMainThread(), fault.handler
    assert handler is not None

    def handle(*_: object) -> None:
        scene.handled.set()
        handler(scene.session)

    def check() -> None:
        try:
            check_end(scene, call, fault, struck_first, main.call)
        finally:
            scene.session.terminate()  # or a call that has not ended would keep the main thread

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        main.serve(check)
    finally:
        signal.signal(signal.SIGUSR1, before)


def make_sockets(certificate: tuple[Path, Path] | None) -> tuple[socket.socket, socket.socket]:
    """A connection with small buffers: writing soon blocks until the peer reads."""
    if certificate is not None:
        ours, theirs = tls_pair(certificate, receive_buffer=4096)
    else:
        ours, theirs = tcp_pair(receive_buffer=4096)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return ours, theirs


@pytest.mark.usefixtures("quick_stand_in")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_call_ends(
    make_session: MakeSession,
    certificate: tuple[Path, Path],
    call: Call,
    fault: Fault,
    tls: bool,
) -> None:
    for struck_first in (False, True):
        options = {"ping_interval": None, "timeout": PATIENCE, "close_timeout": SHORT}
        session, peer = make_session(
            sockets=make_sockets(certificate if tls else None), **{**options, **fault.options}
        )
        # One message goes first, so that TLS has finished its own messages at the beginning.
        session.send("hello")
        assert peer.receive() == "hello"
        scene = Scene(session, peer)
        with no_descriptor_left() if fault.starved else nullcontext():
            try:
                if fault.handler is None:
                    check_end(scene, call, fault, struck_first, Background)
                else:
                    check_end_by_signal(scene, call, fault, struck_first)
            finally:
                scene.finish()


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS if fault.handler is None and not fault.starved],
    ids=lambda fault: fault.name,
)
def test_nobody_remembers_a_session_that_is_over(fault: Fault) -> None:
    ours, theirs = tcp_pair()
    options = Options(**{"ping_interval": None, "close_timeout": SHORT, **fault.options})
    session = Session(Opening(make_transport(ours), options, {}))
    session._prepare()
    session._opened()
    scene = Scene(session, Peer(theirs))
    with ours, theirs:
        fault.strike(scene)
        scene.finish()
        session._conclude(CloseReason())
    gone = weakref.ref(session)
    del session, scene
    deadline = monotonic() + PATIENCE
    while gone() is not None:  # until the last thread is out of its last call
        assert monotonic() < deadline
        gc.collect()
