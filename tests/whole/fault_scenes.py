"""The calls and the faults of the fault matrix (``test_fault_matrix.py``)."""

from __future__ import annotations

import os
import resource
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from wsproto.events import CloseConnection, Ping

from syncws import CloseReason, Session

from ..support import faults
from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE, Peer, frame

#: Seconds that replace the defaults of 10 or 20 seconds.
SHORT = 0.05

#: The timeout of a session whose peer reads steadily: many times the pace of that peer, also on a
#: busy machine.
STEADY = 1.0

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
    #: It writes for at most the timeout that it is called with.
    timed: bool = False
    #: Whether it ends the session.
    closes: bool = False


def send_on(session: Session, _: float) -> None:
    message = "tick" * 100
    for _number in range(len(HUGE) // len(message)):
        session.send(message)


def is_stuck(session: Session, _: Peer) -> None:
    transport = session._transport
    until(session, lambda: transport.sent > 0 and not transport.wait(write=True, timeout=0))


def is_reading(session: Session, _: Peer) -> None:
    until(session, lambda: session._reader.receiving.locked() and session._reader.busy)


def close_comes(peer: Peer) -> None:
    """With ``ping_interval``, pings may come before it."""
    while not isinstance(event := peer.next_event(), CloseConnection):
        assert isinstance(event, Ping), event


CALLS = [
    Call("receive", lambda session, _: session.receive(), is_reading),
    Call("receive with a timeout", Session.receive, is_reading, in_vain=TimeoutError),
    Call("send small messages", send_on, is_stuck, writes=True),
    Call("send a huge one", lambda session, _: session.send(HUGE), is_stuck, writes=True),
    Call(
        "send a huge one with a timeout",
        lambda session, timeout: session.send(HUGE, timeout),
        is_stuck,
        writes=True,
        timed=True,
    ),
    Call(
        "close",
        lambda session, _: session.close(),
        lambda _, peer: close_comes(peer),
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
        #: Set for what drips to come all at once, and for the peer to read quickly.
        self.hurry = threading.Event()
        #: Set when the peer need not read any longer.
        self.over = threading.Event()
        #: Set when the handler of the signal has begun.
        self.handled = threading.Event()

    def elsewhere(self, function: Callable[..., Any], *args: Any) -> None:
        """Call ``function`` in another thread."""
        self.others.append(Background(function, *args))

    def finish(self) -> None:
        self.over.set()
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
        try:
            for start in range(len(data)):
                if scene.hurry.wait(0.005):
                    scene.peer.send_bytes(data[start:])
                    return
                scene.peer.send_bytes(data[start : start + 1])
                dripped.set()
        except OSError:  # the session ends while it goes on, or has ended before
            dripped.set()

    scene.elsewhere(send_slowly)
    assert dripped.wait(PATIENCE)


def read_slowly(scene: Scene) -> None:
    """The peer reads a little at a time, and never pauses for as long as the timeout.

    When there is a hurry it sends a message and reads all that there is.
    """
    sock = scene.peer.socket
    read_some = threading.Event()

    def read() -> None:
        sock.settimeout(0.02)
        size = 4096
        with suppress(OSError):  # the session ends while it goes on
            while not scene.over.is_set():
                try:
                    ended = not sock.recv(size)
                except TimeoutError:
                    ended = False
                finally:
                    read_some.set()  # also if the session has ended before
                if ended:
                    return
                if size == 4096 and scene.hurry.wait(0.02):  # the pace of the peer
                    if scene.over.is_set():
                        return
                    size = 65_536
                    scene.peer.send(SLOW)

    scene.elsewhere(read)
    assert read_some.wait(PATIENCE)


def leave_unfinished(scene: Scene) -> None:
    """A large message: one whole fragment, a part of the second, and then silence.

    It is less than what is read ahead for a handler that does not receive. Of a larger one, bytes
    would stay unread, and a pong may be among them.
    """
    data = frame(2, bytes(100_000), fin=False) + frame(0, bytes(100_000))[:-1]

    def send() -> None:
        with suppress(OSError):  # the session ends before all of it is read
            scene.peer.send_bytes(data)

    scene.elsewhere(send)


def interrupt(scene: Scene) -> None:
    """Interrupt the main thread with a signal.

    Python notes a signal that comes right before a system call, and runs its handler after the
    call. So one signal may come too early to interrupt anything.
    """
    main = threading.main_thread().ident
    assert main is not None
    while not scene.handled.is_set():
        signal.pthread_kill(main, signal.SIGUSR1)
        scene.handled.wait(0.05)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """The system refuses this process every new descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 1, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


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
    #: The peer reads, slowly: only a call with a timeout of its own fails.
    reads: bool = False
    #: The main thread makes the call, and this is what the handler of a signal does there.
    handler: Callable[[Session], object] | None = None
    #: The process has no descriptor left from before the call on.
    starved: bool = False


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
    Fault(
        "unfinished message and silence",
        leave_unfinished,
        ends((1011, "ping_timeout")),
        ends((1006, "send_timeout")),
        options={"timeout": SHORT, "ping_interval": SHORT / 2},
    ),
    Fault("slow but steady reader", read_slowly, ends(), options={"timeout": STEADY}, reads=True),
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
    Fault(
        "close() in a signal handler",
        interrupt,
        ends((4001, "local")),
        handler=lambda session: session.close(4001),
    ),
    Fault(
        "terminate() in a signal handler",
        interrupt,
        ends((1006, "local")),
        handler=Session.terminate,
    ),
]
FAULTS += [
    replace(fault, name=f"{fault.name}, no descriptor left", starved=True)
    for fault in FAULTS
    if fault.name in ("stall", "close() in another thread")
]
