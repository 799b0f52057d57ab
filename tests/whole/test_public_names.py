"""The public names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import syncws
from syncws import testing

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


def test_public_names_say_where_users_find_them() -> None:
    for name in set(syncws.__all__) - {"Opcode"}:  # Opcode is wsproto's
        assert getattr(syncws, name).__module__ == "syncws", name


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


def test_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
