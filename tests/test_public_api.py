"""The public names, and the way the modules may depend on each other."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import syncws
from syncws import testing

PACKAGE = Path(syncws.__file__).parent


def test_public_names() -> None:
    assert sorted(syncws.__all__) == [
        "ClientSession",
        "CloseCode",
        "CloseReason",
        "ConcurrencyError",
        "ConnectionClosed",
        "ConnectionClosedError",
        "ConnectionClosedOK",
        "Deflate",
        "Frame",
        "HandshakeError",
        "Hub",
        "HubError",
        "Listener",
        "Opcode",
        "Options",
        "PreparedMessage",
        "RawSession",
        "SendTimeoutError",
        "Server",
        "Session",
        "Stats",
        "SyncwsError",
        "WebSocketMiddleware",
        "WebSocketUpgrade",
        "callbacks",
        "connect",
        "exchange",
        "respond",
        "serve",
        "stats",
        "stream",
        "websocket",
    ]
    for name in syncws.__all__:
        assert getattr(syncws, name).__doc__, f"{name} has no docstring"


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


def _imports(module: str) -> set[str]:
    """What a module imports when it is run; not what only its types need."""
    found: set[str] = set()
    for node in ast.parse((PACKAGE / f"{module}.py").read_text()).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


@pytest.mark.parametrize(
    "module",
    [
        "protocol",
        "raw_protocol",
        "frames",
        "masking",
        "deflate",
        "handshake",
        "close",
        "errors",
        "url",
        "client_handshake",
        "read_ahead",
        "prepared",
    ],
)
def test_pure_modules_have_no_io_threads_or_clock(module: str) -> None:
    assert not _imports(module) & {"socket", "select", "ssl", "threading", "time"}


@pytest.mark.parametrize("module", [path.stem for path in PACKAGE.glob("*.py")])
def test_only_the_transport_does_io(module: str) -> None:
    allowed = {
        "transport": {"socket", "select", "ssl"},
        "connectors": {"socket", "ssl"},
        "slow_heads": {"socket", "select"},
        "lingering": {"socket"},
        "redis_bus": {"select"},  # waiting beside redis-py
        "server": {"socket", "ssl"},  # the listening socket
        "client": {"socket", "ssl"},  # connecting
    }
    assert _imports(module) & {"socket", "select", "ssl"} <= allowed.get(module, set())


def test_dependencies_point_one_way() -> None:
    """A module comes after all that it imports."""
    order = [
        "close",
        "errors",
        "deflate",
        "handshake",
        "options",
        "masking",
        "frames",
        "prepared",
        "protocol",
        "raw_protocol",
        "transport",
        "clock",
        "wakeup",
        "futures",
        "pings",
        "ending",
        "writer",
        "read_ahead",
        "reader",
        "pinger",
        "streams",
        "outgoing",
        "registry",
        "units",
        "handlers",
        "base",
        "session",
        "raw",
        "listener",
        "redis_bus",
        "hub",
        "connectors",
        "upgrade",
        "deferred",
        "middleware",
        "pool",
        "slow_heads",
        "lingering",
        "statsd",
        "worker",
        "http1",
        "wsgi",
        "connection",
        "server",
        "django",
        "flask",
        "url",
        "client_handshake",
        "client",
        "cli_serve",
        "cli_connect",
        "__main__",
        "pytest_plugin",
        "__init__",
    ]
    assert sorted(order) == sorted(path.stem for path in PACKAGE.glob("*.py"))
    for module in order:
        inside = {name[1:] for name in _imports(module) if name.startswith(".")}
        allowed = set(order[: order.index(module)])
        assert inside <= allowed, f"{module} imports {inside - allowed}"


def test_nothing_depends_on_what_is_for_tests() -> None:
    order = ["clock", "peer", "application", "client", "__init__"]
    assert sorted(order) == sorted(path.stem for path in (PACKAGE / "testing").glob("*.py"))
    for module in order:
        beside = {f".{earlier}" for earlier in order[: order.index(module)]}
        imports = {name for name in _imports(f"testing/{module}") if name.startswith(".")}
        assert {name for name in imports if not name.startswith("..")} <= beside
    for path in PACKAGE.glob("*.py"):
        assert ".testing" not in _imports(path.stem)
