"""The public names, and their signatures."""

from __future__ import annotations

import inspect
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import syncws
from syncws import testing
from syncws.system.tls import make_transport
from syncws.worker import WebSocketWorker

from . import public_names

PACKAGE = Path(syncws.__file__).parent


def test_public_names() -> None:
    assert sorted(syncws.__all__) == [
        "Backoff",
        "ClientSession",
        "CloseCode",
        "CloseReason",
        "Codec",
        "ConcurrencyError",
        "ConnectionClosed",
        "ConnectionClosedError",
        "ConnectionClosedOK",
        "Deflate",
        "Frame",
        "HandshakeError",
        "History",
        "Hub",
        "HubError",
        "InvalidMessage",
        "Joined",
        "Listener",
        "Opcode",
        "Options",
        "PreparedMessage",
        "Rate",
        "RawSession",
        "SendTimeoutError",
        "Server",
        "Session",
        "Stats",
        "SyncwsError",
        "TypedSession",
        "WebSocketMiddleware",
        "WebSocketUpgrade",
        "callbacks",
        "connect",
        "exchange",
        "reconnect",
        "respond",
        "serve",
        "stats",
        "stream",
        "typed",
        "websocket",
    ]
    for name in syncws.__all__:
        assert getattr(syncws, name).__doc__, f"{name} has no docstring"


@pytest.mark.skipif(
    getattr(syncws, "__compiled__", False), reason="compiled functions have no signatures"
)
def test_the_public_interface_changes_only_with_its_page() -> None:
    """To accept a change: ``python -m tests.whole.public_names``."""
    frozen = public_names.PAGE.read_text().splitlines()
    if sys.version_info < (3, 11):
        frozen = [line for line in frozen if not line.lstrip().startswith("@overload")]
    assert public_names.text().splitlines() == frozen, (
        "the public interface has changed: run python -m tests.whole.public_names, and tell the "
        "change in CHANGELOG.md"
    )


def test_public_names_say_where_users_find_them() -> None:
    for name in set(syncws.__all__) - {"Opcode"}:  # Opcode is wsproto's
        assert getattr(syncws, name).__module__ == "syncws", name
    for name in testing.__all__:
        assert getattr(testing, name).__module__ == "syncws.testing", name
    assert WebSocketWorker.__module__ == "syncws.worker"


def test_public_methods_are_documented() -> None:
    assert sorted(testing.__all__) == ["Clock", "Peer", "WebSocketClient"]
    for kind in (
        syncws.Session,
        syncws.RawSession,
        testing.Clock,
        testing.Peer,
        testing.WebSocketClient,
    ):
        for name in dir(kind):
            member = getattr(kind, name)
            if not name.startswith("_") and (callable(member) or isinstance(member, property)):
                assert inspect.getdoc(member), f"{kind.__name__}.{name} has none"


def test_import_needs_neither_gunicorn_nor_flask() -> None:
    code = (
        "import sys; sys.modules['gunicorn'] = sys.modules['flask'] = None; "
        "sys.modules['werkzeug'] = None; import syncws"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_can_be_imported_on_windows() -> None:
    """Types and vocabulary are useful on Windows. Opening a session there raises an error that
    explains why it can not be opened."""
    code = """
import os, select, signal, socket, sys
for name in "fcntl", "grp", "pwd", "readline", "resource", "termios", "tty":
    sys.modules[name] = None
for module, names in {
    os: "fork register_at_fork sched_yield eventfd pipe2 sendfile set_blocking",
    select: "poll epoll",
    signal: "SIGHUP SIGQUIT SIGUSR1 pthread_sigmask",
    socket: "AF_UNIX MSG_DONTWAIT SO_REUSEPORT",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
import syncws
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_session_says_that_it_can_not_be_opened_on_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as sock:
        monkeypatch.delattr(socket, "MSG_DONTWAIT")
        with pytest.raises(RuntimeError, match="can not open sessions on Windows"):
            make_transport(sock)


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
