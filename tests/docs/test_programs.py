"""The programs in the pages run, and those with routes answer.

Each block is executed. A fragment is given what every reader knows (``given_names()``), and what
the blocks above it on the page define. Then a peer opens each WebSocket route that the block has
made, and a client gets each plain page; tests in a block are called.

A block that cannot be run here has a comment above it that says why: ``<!-- not run: ... -->``.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bottle
import django
import pytest
from flask import Flask, request

import examples.django_echo  # noqa: F401  # configures Django
import syncws
from syncws.flask import WebSockets, _View
from syncws.testing import WebSocketClient

from ..support.pairs import PATIENCE
from ..support.servers import ROOT
from .blocks import PAGES, Block, blocks_of

#: The pages that a test of their own runs as they are.
RUN_ELSEWHERE = {
    "docs/coming-from/from-flask-sock.md": "tests.frameworks.test_from_flask_sock",
    "docs/coming-from/from-channels.md": "tests.docs.test_from_channels",
    "docs/coming-from/from-websocket-client.md": "tests.docs.test_coming_from",
    "docs/coming-from/from-websockets.md": "tests.docs.test_coming_from",
    "docs/howto/testing.md": "tests.testing.test_pytest_plugin",
}
#: What a peer says on each route: it can be read as text and as JSON.
MESSAGE = json.dumps({"text": "hello"})


def pages_to_run() -> list[Any]:
    names = {page: str(page.relative_to(ROOT)) for page in PAGES if blocks_of(page)}
    return [pytest.param(p, id=name) for p, name in names.items() if name not in RUN_ELSEWHERE]


@pytest.mark.parametrize("page", pages_to_run())
def test_f16_the_programs_of_a_page_run(
    page: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with stand_ins(monkeypatch):
        above: dict[str, Any] = {}
        for block in blocks_of(page):
            if not block.excuse:
                above |= run(block, above)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not errors, caplog.text


def test_pages_that_are_run_elsewhere_are_there() -> None:
    for page, module in RUN_ELSEWHERE.items():
        assert blocks_of(ROOT / page)
        source = inspect.getsource(importlib.import_module(module))
        assert Path(page).name in source


def test_each_block_compiles() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            block.compile()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@websockets.route('/')\ndef room(session):\n    session.sent('hello')\n", "sent"),
        ("@app.get('/')\ndef page():\n    return syncws.sent\n", "500"),
        ("session.sent('hello')\n", "sent"),
        ("def test_it():\n    raise ValueError('reached')\n", "reached"),
        ("syncws.connect('ws://example.com', patience=3)\n", "patience"),
        ("session.send(somebody)\n", "somebody"),
    ],
)
def test_a_program_that_is_wrong_is_found(
    code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_ins(monkeypatch), pytest.raises(Exception, match=message):
        run(Block(ROOT / "README.md", 1, code, ""), {})


def run(block: Block, above: dict[str, Any]) -> dict[str, Any]:
    """Execute a block, and use what it makes. Return the names that it has bound."""
    # Tests are about the program above them. Other fragments add to an application of their own.
    given = given_names() | above if "def test_" in block.code else above | given_names()
    unknown = block.unbound - set(given) - {"session"}
    assert not unknown, f"{block} uses {unknown}, which neither it nor the page defines"
    namespace = {**given, "__name__": "program"}
    if "session" in block.unbound:
        run_in_a_handler(block, namespace)
    else:
        exec(block.compile(), namespace)
    made = {name: value for name, value in namespace.items() if given.get(name) is not value}
    for value in namespace.values():
        if isinstance(value, Flask):
            use_flask(value)
        elif isinstance(value, syncws.WebSocketUpgrade):
            use(value, "/")
    for name, value in made.items():
        if name.startswith("test_") and not inspect.signature(value).parameters:
            value()
    return made


def run_in_a_handler(block: Block, namespace: dict[str, Any]) -> None:
    """Execute what belongs into a handler, with a session on which a message comes."""

    @syncws.websocket()
    def handler(session: syncws.Session) -> None:
        namespace["session"] = session
        with namespace["app"].test_request_context():
            exec(block.compile(), namespace)

    use(handler, "/")


def use(app: Any, path: str) -> None:
    """Open a session, say something on it, and close it. What the handler raises is raised here."""
    try:
        peer = WebSocketClient(app, timeout=PATIENCE).connect(path)
    except syncws.HandshakeError as refused:
        if refused.status is None or refused.status >= 500:
            raise
        return
    with peer, contextlib.suppress(syncws.ConnectionClosed):
        peer.send(MESSAGE)


def use_flask(app: Flask) -> None:
    for rule in list(app.url_map.iter_rules()):
        if rule.endpoint == "static":
            continue
        built = rule.build(dict.fromkeys(rule.arguments, "red"))
        assert built, rule
        path = built[1]
        if isinstance(app.view_functions[rule.endpoint], _View):
            use(app, path)
        elif rule.methods and "GET" in rule.methods:
            assert app.test_client().get(path).status_code < 500
        else:
            assert app.test_client().post(path, data={"text": "hello"}).status_code < 500


def given_names() -> dict[str, Any]:
    """What a fragment may use, because every reader knows what it means: new for each block."""
    app = Flask("documented")
    app.secret_key = "the tests'"
    websockets = WebSockets(app)
    return {
        "WebSocketClient": WebSocketClient,
        "WebSockets": WebSockets,
        "app": app,
        "application": app.wsgi_app,
        "bottle": bottle,
        "django": django,
        "echo": syncws.websocket()(lambda session: None),
        "get_token": lambda: "secret",
        "handler": lambda session: None,
        "hub": syncws.Hub(),
        "json": json,
        "logging": logging,
        "login_required": lambda view: view,
        "pytest": pytest,
        "request": request,
        "room": "red",
        "sessions": [],
        "state": {},
        "syncws": syncws,
        "time": time,
        "user": SimpleNamespace(id="ann", name="Ann"),
        "websockets": websockets,
    }


@contextlib.contextmanager
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers take a free port and do not wait. Clients talk to a server here, and hubs are for
    this process alone."""
    servers = contextlib.ExitStack()
    serve, connect, reconnect = syncws.serve, syncws.connect, syncws.reconnect
    hub_init = syncws.Hub.__init__

    def serve_here(target: Any, host: str = "", port: int = 0, **options: Any) -> syncws.Server:
        return servers.enter_context(serve(target, "127.0.0.1", 0, **options))

    def connect_here(url: str, **options: Any) -> syncws.ClientSession:
        return connect(address, **options)

    def reconnect_here(url: str, **options: Any) -> Iterator[syncws.ClientSession]:
        yield next(reconnect(address, **options))

    def make_hub(hub: syncws.Hub, url: str | None = None, **options: Any) -> None:
        hub_init(hub, **options)

    def talk(session: syncws.Session) -> None:
        session.send(MESSAGE)
        with contextlib.suppress(TimeoutError):  # some clients only listen
            session.receive(timeout=0.1)
        session.send(MESSAGE)

    with servers:
        peer = servers.enter_context(serve(talk, "127.0.0.1", 0))
        address = f"ws://127.0.0.1:{peer.port}/"
        monkeypatch.setattr(syncws, "serve", serve_here)
        monkeypatch.setattr(syncws, "connect", connect_here)
        monkeypatch.setattr(syncws, "reconnect", reconnect_here)
        monkeypatch.setattr(syncws.Server, "serve_forever", lambda server: None)
        monkeypatch.setattr(syncws.Hub, "__init__", make_hub)
        yield
