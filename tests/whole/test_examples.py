"""The examples, as the README runs them."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import websocket
from flask import Flask

import syncws
from examples import typed_app
from syncws.flask import WebSockets
from syncws.testing import WebSocketClient

from ..support.background import wait_until
from ..support.clients import connect
from ..support.pairs import PATIENCE
from ..support.redis_server import RedisServer
from ..support.servers import NO_CONTROL_SOCKET, ROOT, Server, gunicorn


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    with gunicorn("examples.chat:app") as running:
        yield running


def join(server: Server, name: str) -> Any:
    client = websocket.create_connection(server.url("/chat"), timeout=PATIENCE)
    client.send(name)
    return client


def next_of(client: Any, kind: str) -> Any:
    """The chat's next message of this kind."""
    while (message := json.loads(client.recv()))["type"] != kind:
        pass
    return message


def test_echo() -> None:
    with gunicorn("examples.echo:app") as server:
        assert "/echo" in server.get("/").text
        client = websocket.create_connection(server.url("/echo"), timeout=PATIENCE)
        client.send("hello")
        assert client.recv() == "hello"
        client.close()
        assert server.get("/echo").status_code == 501


def test_the_other_shapes_of_a_handler(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/howto/handlers.md").read_text()
    (code, *_) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    app = Flask(__name__)
    exec(code, {"syncws": syncws, "time": time, "websockets": WebSockets(app)})
    client = WebSocketClient(app)
    with client.connect("/shout") as peer:
        peer.send("hello")
        assert peer.receive(PATIENCE) == "HELLO"
    with client.connect("/clock") as peer:
        assert re.fullmatch(r"\d\d:\d\d:\d\d", str(peer.receive(PATIENCE)))
        peer.send("to be printed")
    with client.connect("/greeter") as peer:
        peer.send("Ann")
        peer.send("hello")
        assert peer.receive(PATIENCE) == "Ann: hello"
    assert "to be printed\nAnn has gone: the peer closed" in capsys.readouterr().out


def test_the_echo_of_the_page_on_raw_sessions() -> None:
    (code,) = re.findall("```python\n(.*?)```", (ROOT / "docs/howto/raw.md").read_text(), re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)
    with syncws.serve(module["echo"], "127.0.0.1", 0) as server:
        peer = connect(server.port, "/")
        peer.ping(b"are you there?")
        assert peer.expect_pong() == b"are you there?"
        peer.send("hello")
        assert peer.receive() == "hello"
        peer.send_close(4000, "bye")
        assert peer.expect_close() == (4000, "bye")
        peer.expect_end()
        peer.close_socket()


def test_chat(chat: Server) -> None:
    assert "<!doctype html>" in chat.get("/").text
    with contextlib.ExitStack() as stack:
        ann = stack.enter_context(contextlib.closing(join(chat, "Ann")))
        assert next_of(ann, "here")["count"] == 1
        bob = stack.enter_context(contextlib.closing(join(chat, " Bob ")))
        # Her own arrival may be told first, and only when he is there too.
        while "Bob" not in (news := next_of(ann, "presence"))["joined"]:
            assert news["joined"] == ["Ann"]
        assert news["count"] == 2
        assert next_of(bob, "here")["count"] == 2
        bob.send("héllo <b>")
        said = next_of(ann, "say")
        assert (said["name"], said["text"]) == ("Bob", "héllo <b>")
        assert next_of(bob, "say") == said, "one id for all"
        assert requests.post(chat.url("/notify", "http"), {"text": "lunch"}, timeout=PATIENCE).ok
        notice = next_of(ann, "say")
        assert (notice["name"], notice["text"]) == ("notice", "lunch")
        bob.close()
        assert next_of(ann, "presence") == {
            "type": "presence",
            "joined": [],
            "left": ["Bob"],
            "count": 1,
        }


def test_the_first_page_of_a_chat_gets_each_line_once() -> None:
    with gunicorn("examples.chat:app") as server, contextlib.closing(join(server, "Ann")) as ann:
        ann.send("one")
        ann.send("two")
        kinds: list[str] = []
        while not kinds or kinds[-1] != "two":
            message = json.loads(ann.recv())
            kinds.append(message["text"] if message["type"] == "say" else message["type"])
    assert [each for each in kinds if each != "presence"] == ["here", "one", "two"]


def test_chat_limits_what_a_message_may_be(chat: Server) -> None:
    with contextlib.closing(join(chat, "Ann")) as ann:
        next_of(ann, "here")
        ann.send("x" * 20_000)
        opcode, data = ann.recv_data()
        while opcode == websocket.ABNF.OPCODE_TEXT:  # her own arrival
            opcode, data = ann.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert data[:2] == (1009).to_bytes(2, "big")
        ann.shutdown()


def test_settings_of_the_readme_are_valid() -> None:
    """gunicorn reads ``gunicorn.conf.py`` from the directory in which it is started."""
    settings: dict[str, Any] = {}
    exec((ROOT / "gunicorn.conf.py").read_text(), settings)
    assert settings["worker_class"] == "syncws.worker.WebSocketWorker"
    from gunicorn.config import Config

    known = Config().settings
    assert {name for name in settings if not name.startswith("__")} <= set(known)


def test_the_typed_application() -> None:
    client = WebSocketClient(typed_app.app)
    ann = client.connect("/rooms/red/1?name=Ann", subprotocols=["chat"])
    bob = client.connect("/rooms/red/1?name=Bob", headers={"Origin": "https://elsewhere.example"})
    wait_until(lambda: typed_app.hub.count("red/1") == 2)
    ann.send("hello")
    assert [ann.receive(), bob.receive()] == ["Ann: hello"] * 2
    assert ann.subprotocol == "chat"
    ann.send(b"")
    assert ann.wait_closed().code == 1003
    ann.close()
    bob.close()
    with client.connect("/add") as peer:
        peer.send_json([1, 2, 3])
        assert peer.receive_json() == {"sum": 6}
    with client.connect("/count/2") as peer:
        for message in "abc":
            peer.send(message)
        assert [peer.receive(), peer.receive()] == ["0 a", "1 b"]
        assert peer.wait_closed().reason == "that is all"
    with client.connect("/frames") as peer:
        peer.ping(b"own")
        assert peer.receive_ping() == b"own"
        peer.send("one")
        assert peer.receive() == "one"
    with client.connect("/journal") as peer:
        peer.send("an entry")
        assert peer.receive() == "1 entries"
    assert typed_app.journal.entries.get(timeout=PATIENCE) == "49152: an entry"
    # The last session may not have ended yet.
    wait_until(
        lambda: (
            typed_app.app.test_client().get("/figures").json
            == {
                "open": syncws.stats().open,
                "received": syncws.stats().messages_received,
            }
        )
    )


def test_the_ticker_ticks_once_with_several_workers() -> None:
    redis_server = RedisServer()
    arguments = ["--config=python:examples.ticker", "--preload", "--workers=2"]
    command = ["-m", "gunicorn", *arguments, "--bind=127.0.0.1:0", *NO_CONTROL_SOCKET]
    listening = r"Listening at: http://127\.0\.0\.1:(\d+)"
    env = {"REDIS_URL": redis_server.url, "TICK_EVERY": "0.1"}
    with contextlib.ExitStack() as stack:
        stack.callback(redis_server.kill)
        server = stack.enter_context(Server([*command, "examples.ticker:app"], listening, **env))
        peers = [connect(server.port, "/ticks") for _ in range(8)]
        for peer in peers:
            told = [int(str(peer.receive())) for _ in range(5)]
            assert len(set(told)) == len(told), f"each tick once: {told}"
            peer.close_socket()
        server.stop()
        assert "Traceback" not in server.output
