"""What every test gets: nothing it starts may outlive it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import hypothesis
import pytest

from syncws import CloseReason, RawSession
from syncws.options import Options
from syncws.session import attending
from syncws.session.opening import Opening
from syncws.session.session import Session
from syncws.system.tls import make_transport
from syncws.system.transport import Transport

from .support.certificates import make_certificate
from .support.listening import Listener
from .support.pairs import PATIENCE, Peer, tcp_pair

# A shell without job control has what it starts in the background ignore SIGINT,
# and so would the servers that tests start, and stop with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example may take depends on what else the machine does.
hypothesis.settings.register_profile(
    "syncws", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("syncws")


def pytest_xdist_auto_num_workers() -> int:
    # Tests wait more than they compute. Those that take long load the machine enough by themselves.
    per_core = 1 if os.environ.get("SYNCWS_TEST_EVERYTHING") else 2
    return per_core * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("SYNCWS_TEST_EVERYTHING"):
        reason = "takes long: set SYNCWS_TEST_EVERYTHING=1, as .ci/run does"
        for item in items:
            if "load" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    # What is there by now stays. Each test ends with a collection, which need
    # not look at it again: that took more time than the tests.
    gc.collect()
    gc.freeze()


def _sockets() -> set[str]:
    """The sockets and pipes that this process holds, by inode, and the eventfds, by number."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of this very listing
        if target.startswith(("socket:", "pipe:")):
            found.add(target)
        elif target == "anon_inode:[eventfd]":
            found.add(f"eventfd:{fd}")
    return found


def _ends(thread: threading.Thread) -> bool:
    """Wait for a thread to end; whether it does."""
    deadline = monotonic() + PATIENCE
    while thread in threading.enumerate() and monotonic() < deadline:
        try:
            thread.join(PATIENCE)
        except RuntimeError:
            sleep(0.001)  # it is just being started, and can not be joined yet
    return thread not in threading.enumerate()


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No thread, socket or pipe of a test survives it."""
    threads = set(threading.enumerate())
    sockets = _sockets()
    yield
    for thread in set(threading.enumerate()) - threads:
        if thread.name == "syncws scheduler":
            continue  # the process's, for all tests; its own test shows that it ends
        assert _ends(thread), f"the test left {thread} running"
    gc.collect()
    assert _sockets() <= sockets, "the test left sockets open"


@pytest.fixture(autouse=True)
def logging_is_as_before() -> Iterator[None]:
    """What a test or a program of the documentation asks to be logged is not logged for others."""
    loggers = [logging.getLogger(), logging.getLogger("syncws")]
    levels = [each.level for each in loggers]
    yield
    for each, level in zip(loggers, levels, strict=True):
        each.setLevel(level)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for localhost."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


MakeSession = Callable[..., tuple[Session, Peer]]


@pytest.fixture
def ends_with_its_test() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def end(session: Session | RawSession, ours: socket.socket, peer: Peer) -> None:
    session.terminate()
    session._conclude(CloseReason())
    ours.close()
    peer.close_socket()


@pytest.fixture
def make_session(ends_with_its_test: ExitStack) -> MakeSession:
    """Open sessions over real TCP connections, each with the peer's end of it."""

    def make(
        *,
        sockets: tuple[socket.socket, socket.socket] | None = None,
        received: bytes = b"",
        started: bool = True,
        transport: Callable[[socket.socket], Transport] = make_transport,
        **options: Any,
    ) -> tuple[Session, Peer]:
        ours, theirs = sockets or tcp_pair()
        environ = {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "4711", "PATH_INFO": "/test"}
        session = Session(Opening(transport(ours), Options(**options), environ, received=received))
        peer = Peer(theirs)
        ends_with_its_test.callback(end, session, ours, peer)
        if started:
            session._prepare()
            session._opened()
        return session, peer

    return make


@pytest.fixture
def session_and_peer(make_session: MakeSession) -> tuple[Session, Peer]:
    return make_session()


@pytest.fixture
def quick_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ping thread takes the handler's place at once, not within a second."""
    monkeypatch.setattr(attending, "STAND_IN_AFTER", 0.01)


MakeRaw = Callable[..., tuple[RawSession, Peer]]


@pytest.fixture
def make_raw(ends_with_its_test: ExitStack) -> MakeRaw:
    """The same of raw sessions."""

    def make(
        *,
        received: bytes = b"",
        extensions: str = "",
        transport: Callable[[socket.socket], Transport] = make_transport,
        **options: Any,
    ) -> tuple[RawSession, Peer]:
        ours, theirs = tcp_pair()
        session = RawSession(
            Opening(
                transport(ours),
                Options(raw=True, **options),
                {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "4711", "PATH_INFO": "/raw"},
                extensions=extensions,
                received=received,
            )
        )
        peer = Peer(theirs)
        ends_with_its_test.callback(end, session, ours, peer)
        session._prepare()
        session._opened()
        return session, peer

    return make


@pytest.fixture
def raw_and_peer(make_raw: MakeRaw) -> tuple[RawSession, Peer]:
    return make_raw()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()
