"""Every blocking call, combined with every fault that can happen while it blocks.

The rows are in ``CALLS`` and the columns in ``FAULTS``. Each call is tested with
each fault, with and without TLS, and with the call before and after the fault.
Each call must end. If the session ends, the call raises the exception for that
end; if the session goes on, the call gives its usual result. The fixtures check
that nothing is left afterwards.

The peer does only what the fault says: it does not read, and it answers neither
pings nor a Close.
"""

from __future__ import annotations

import gc
import socket
import ssl
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import syncws
from syncws import CloseReason, Options, Session
from syncws.session.opening import Opening
from syncws.system.tls import make_transport

from ..conftest import MakeSession
from ..support import faults
from ..support.background import Background, wait_until
from ..support.pairs import (
    PATIENCE,
    Peer,
    frame,
    tcp_pair,
    tls_pair,
)

#: Seconds that replace the defaults of 10 or 20 seconds.
SHORT = 0.05

#: More bytes than the smallest buffers of both ends hold.
HUGE = b"x" * 1_000_000

#: A message that arrives byte by byte. All of it would take minutes without ``Scene.hurry``.
SLOW = "drop by drop" * 1000

End = tuple[int, str]  # a code, and a cause


def until(session: Session, condition: Callable[[], bool]) -> None:
    """Wait for a condition that has no event, for example that a thread has begun to wait.

    This also returns when the session has ended, because some faults happen on their own.
    """
    wait_until(lambda: condition() or session.close_reason.done())


# The calls


@dataclass(frozen=True)
class Call:
    """A blocking call, and a function that waits until the call blocks."""

    name: str
    #: Called with the session and a timeout. Some calls do not use the timeout.
    run: Callable[[Session, float], Any]
    blocks: Callable[[Session, Peer], object]
    #: The exception that it raises if the session does not end; None if it then returns a message.
    in_vain: type[BaseException] | None = None
    #: Whether it writes until the peer has to read.
    writes: bool = False
    #: Whether it ends the session.
    closes: bool = False


def send_on(session: Session, _: float) -> None:
    while True:
        session.send("tick" * 100)


def is_stuck(session: Session, _: Peer) -> None:
    transport = session._transport
    until(session, lambda: transport.sent > 0 and not transport.wait(write=True, timeout=0))


def is_reading(session: Session, _: Peer) -> None:
    until(session, lambda: session._reader.receiving.locked() and session._reader.busy)


CALLS = [
    Call("receive", lambda session, _: session.receive(), is_reading),
    Call("receive with a timeout", Session.receive, is_reading, in_vain=TimeoutError),
    Call("send small messages", send_on, is_stuck, writes=True),
    Call("send a huge one", lambda session, _: session.send(HUGE), is_stuck, writes=True),
    Call(
        "close",
        lambda session, _: session.close(),
        lambda _, peer: peer.expect_close(),
        closes=True,
    ),
    Call(
        "wait for a pong",
        lambda session, timeout: session.ping().result(timeout),
        lambda _, peer: peer.expect_ping(),
        in_vain=FutureTimeoutError,
    ),
    Call("wait_closed", Session.wait_closed, lambda *_: None, in_vain=TimeoutError),
]


# The faults


class Scene:
    """A session, its peer, and the calls that run at the same time."""

    def __init__(self, session: Session, peer: Peer) -> None:
        self.session = session
        self.peer = peer
        self.others: list[Background] = []
        #: When this is set, the rest of a slow message is sent at once.
        self.hurry = threading.Event()

    def elsewhere(self, function: Callable[..., Any], *args: Any) -> None:
        """Call ``function`` in another thread."""
        self.others.append(Background(function, *args))

    def finish(self) -> None:
        self.hurry.set()
        for other in self.others:
            other.result()


def half_close(scene: Scene) -> None:
    sock = scene.peer.socket
    if isinstance(sock, ssl.SSLSocket):
        sock.settimeout(0)
        with suppress(ssl.SSLError):  # its answer has not come, or is not what comes next
            sock.unwrap()
    else:
        faults.end_of_file(sock)


def drip(scene: Scene) -> None:
    """Send a message one byte at a time."""
    dripped = threading.Event()

    def send_slowly() -> None:
        data = frame(1, SLOW.encode())
        with suppress(OSError):  # the session ends while it goes on
            for start in range(len(data)):
                if scene.hurry.wait(0.005):
                    scene.peer.send_bytes(data[start:])
                    return
                scene.peer.send_bytes(data[start : start + 1])
                dripped.set()

    scene.elsewhere(send_slowly)
    assert dripped.wait(PATIENCE)


def shut_down(scene: Scene) -> None:
    """Close the session as the worker does when it stops."""
    scene.session._start_closing(CloseReason(1001, "", "shutdown"))


@dataclass(frozen=True)
class Fault:
    """A fault, and how the session may end because of it."""

    name: str
    strike: Callable[[Scene], object]
    ends: frozenset[End]
    #: Other possible ends for calls that write, if the peer has left bytes unread.
    ends_of_writers: frozenset[End] = frozenset()
    #: Other possible ends over TLS.
    ends_of_tls: frozenset[End] = frozenset()
    options: dict[str, Any] = field(default_factory=dict)


def ends(*them: End) -> frozenset[End]:
    return frozenset(them)


FAULTS = [
    Fault(
        "reset",
        lambda scene: faults.reset(scene.peer.socket),
        ends((1006, "error")),
        # Over TLS, older versions of Python report an end of file (CPython issue 115627).
        ends_of_tls=ends((1006, "eof")) if sys.version_info < (3, 12, 3) else ends(),
    ),
    # If the peer closes its socket with unread bytes, TCP sends a reset.
    Fault(
        "end of file",
        lambda scene: scene.peer.close_socket(),
        ends((1006, "eof")),
        ends((1006, "error")),
    ),
    Fault("half-close", half_close, ends((1006, "eof"))),
    Fault(
        "stall",
        lambda scene: None,
        ends((1011, "ping_timeout")),
        ends((1006, "send_timeout")),
        options={"timeout": SHORT, "ping_interval": SHORT / 2},
    ),
    Fault("slow drip", drip, ends(), ends((1006, "send_timeout")), options={"timeout": SHORT}),
    Fault(
        "garbage",
        lambda scene: scene.peer.send_bytes(b"\xff" * 100),
        ends((1002, "protocol_error")),
    ),
    Fault("Close", lambda scene: scene.peer.send_close(4000, "enough"), ends((4000, "peer"))),
    Fault(
        "Close in the middle of a message",
        lambda scene: scene.peer.send_bytes(frame(1, b"cut", fin=False) + frame(8, b"\x0f\xa0")),
        ends((4000, "peer")),
    ),
    Fault(
        "close() in another thread",
        lambda scene: scene.elsewhere(scene.session.close, 4001),
        ends((4001, "local")),
    ),
    Fault(
        "terminate() in another thread",
        lambda scene: scene.elsewhere(scene.session.terminate),
        ends((1006, "local")),
    ),
    Fault("shutdown of the worker", shut_down, ends((1001, "shutdown"))),
]


# The matrix


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


def check_end(scene: Scene, call: Call, fault: Fault, struck_first: bool) -> None:
    """Make the call, let the fault happen, and check the results of both."""
    session, peer = scene.session, scene.peer
    possible = fault.ends
    if call.writes:
        possible |= fault.ends_of_writers
    if isinstance(peer.socket, ssl.SSLSocket):
        possible |= fault.ends_of_tls
    # If the fault ends the session, the call's own timeout must not come first.
    timeout = PATIENCE if possible else SHORT
    if struck_first:
        fault.strike(scene)
    background = Background(call.run, session, timeout)
    if not struck_first:
        call.blocks(session, peer)
        fault.strike(scene)

    if call.closes:
        assert background.result() is None
        # The first reason is kept.
        possible = possible | {(1000, "local")} if struck_first else ends((1000, "local"))
        reason = session.wait_closed(PATIENCE)
    elif possible:
        reason = session.wait_closed(PATIENCE)
        if call.run == Session.wait_closed:
            assert background.result() == reason
        else:
            assert check_exception(background.error(), session) == reason
    else:
        if call.in_vain is not None:
            assert isinstance(background.error(), call.in_vain)
        # The session goes on, and nothing is lost.
        assert not session.close_reason.done()
        scene.hurry.set()
        received = background.result() if call.in_vain is None else session.receive(PATIENCE)
        assert received == SLOW
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
        try:
            check_end(scene, call, fault, struck_first)
        finally:
            scene.finish()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
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
