"""``syncws.compat.simple_websocket`` on every server, and its client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import syncws
from syncws.compat.simple_websocket import (
    Client,
    ConnectionClosed,
    ConnectionError,
    Server,
    SimpleWebsocketError,
)

from ..support.pairs import PATIENCE


class Upper(Server):
    def choose_subprotocol(self, request: Any) -> str | None:
        assert request.target == "/chosen?a=b"
        assert (b"x-test", b"yes") in request.extra_headers
        return request.subprotocols[-1]  # type: ignore[no-any-return]  # wsproto's list of str


SEEN: dict[str, Any] = {}

CLOSES: dict[str, tuple[int, str]] = {
    "no-code": (1005, ""),
    "lost": (1006, "the other side has gone"),
    "tls": (1015, ""),
    "long": (4000, "\N{EURO SIGN}" * 50),
}


def application(environ: Any, start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    ws = (Upper if path == "/chosen" else Server)(environ, subprotocols="one", ping_interval=7)
    SEEN[path] = ws
    if path == "/threads":
        threads = [threading.Thread(target=answer_one, args=(ws,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    elif path == "/closes-with":
        code, text = CLOSES[environ["QUERY_STRING"]]
        ws.close(code, text)
    elif path == "/closes":
        ws.send(42)
        ws.close(4001, "enough")
        with pytest.raises(ConnectionClosed):
            ws.close()
        with pytest.raises(ConnectionClosed):
            ws.send("late")
    else:
        while True:
            message = ws.receive(timeout=0.05)
            ws.send("nothing yet" if message is None else message)
            if message is not None:
                break
        ws.receive()
    start_response("200 OK", [])
    return [b"nobody wants this"]


def wait_until_closed(ws: Client) -> None:
    """The session closes its socket by itself; nobody has to call anything."""
    deadline = time.monotonic() + PATIENCE
    while ws.sock.fileno() != -1:
        assert time.monotonic() < deadline, "the client's socket stays open"
        time.sleep(0.01)


def answer_one(ws: Server) -> None:
    ws.send(f"got {ws.receive()!s}")


@pytest.fixture
def url() -> Iterator[str]:
    with syncws.serve(application, port=0, host="127.0.0.1") as server:
        yield f"ws://127.0.0.1:{server.port}"


def test_receive_returns_none_when_time_is_up(url: str) -> None:
    ws = Client.connect(f"{url}/")
    assert ws.receive(timeout=PATIENCE) == "nothing yet"
    ws.send(b"\x00")
    while (message := ws.receive(timeout=PATIENCE)) == "nothing yet":
        pass
    assert message == b"\x00"
    assert ws.receive(timeout=0) is None
    ws.close()
    with pytest.raises(ConnectionClosed):
        ws.close()
    assert not ws.connected
    wait_until_closed(ws)


def test_several_threads_may_receive(url: str) -> None:
    ws = Client(f"{url}/threads")
    for number in range(3):
        ws.send(number)
    assert {ws.receive(PATIENCE) for _ in range(3)} == {"got 0", "got 1", "got 2"}
    with pytest.raises(ConnectionClosed) as caught:
        ws.receive(PATIENCE)
    assert caught.value.reason == 1000
    wait_until_closed(ws)


def test_messages_come_before_the_end(url: str) -> None:
    ws = Client(f"{url}/closes")
    assert ws.receive(PATIENCE) == "42"
    with pytest.raises(ConnectionClosed) as caught:
        ws.receive(PATIENCE)
    assert (caught.value.reason, caught.value.message) == (4001, "enough")
    assert (ws.close_reason, ws.close_message) == (4001, "enough")
    wait_until_closed(ws)


@pytest.mark.parametrize(
    ("end", "code", "text"),
    [
        ("no-code", 1000, ""),
        ("lost", 1000, "the other side has gone"),
        ("tls", 1000, ""),
        ("long", 4000, "\N{EURO SIGN}" * 41),
    ],
    ids=list(CLOSES),
)
def test_the_end_of_another_connection_can_be_passed_on(
    url: str, end: str, code: int, text: str
) -> None:
    """A relay gives ``close()`` what it finds in a ``ConnectionClosed``."""
    ws = Client(f"{url}/closes-with?{end}")
    with pytest.raises(ConnectionClosed) as caught:
        ws.receive(PATIENCE)
    # A text that is empty is not None, as there.
    assert (caught.value.reason, caught.value.message) == (code, text)
    assert (ws.close_reason, ws.close_message) == (code, text)
    wait_until_closed(ws)


def test_a_client_uses_no_proxy_and_follows_no_redirect_unless_told(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def redirect(environ: Any, start_response: Any) -> Any:
        start_response("302 Found", [("Location", f"{url}/closes"), ("Content-Length", "0")])
        return [b""]

    with syncws.serve(redirect, port=0, host="127.0.0.1") as server:
        there = f"ws://127.0.0.1:{server.port}/#a-fragment-is-not-sent"
        # A proxy that refuses all: nothing listens at this port of this host.
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(ConnectionError) as caught:
            Client(there)
        assert caught.value.status_code == 302
        with pytest.raises(OSError, match="refused"):
            Client(there, proxy="env")
        ws = Client(there, redirects=1)
    assert ws.receive(PATIENCE) == "42"
    with pytest.raises(ConnectionClosed):
        ws.receive(PATIENCE)
    wait_until_closed(ws)


def test_a_subclass_chooses_the_subprotocol(url: str) -> None:
    ws = Client(f"{url}/chosen?a=b", subprotocols=["two", "one"], headers={"X-Test": "yes"})
    assert ws.subprotocol == "one"
    assert ws.receive(PATIENCE) == "nothing yet"
    server = SEEN["/chosen"]
    assert (server.subprotocols, server.subprotocol) == (["one"], "one")
    assert server.is_server
    assert server.connected
    assert server.ping_interval == 7
    assert server.max_message_size is None
    assert server.close_reason == 1005
    assert server.environ["PATH_INFO"] == "/chosen"
    ws.close()
    wait_until_closed(ws)


def test_a_refusal_has_its_status() -> None:
    def refuse(environ: Any, start_response: Any) -> Any:
        start_response("403 Forbidden", [("Content-Length", "0")])
        return [b""]

    with (
        syncws.serve(refuse, port=0, host="127.0.0.1") as server,
        pytest.raises(ConnectionError) as caught,
    ):
        Client(f"ws://127.0.0.1:{server.port}/")
    assert caught.value.status_code == 403


def test_the_exceptions_are_those_of_the_installed_library() -> None:
    import simple_websocket

    assert ConnectionClosed is simple_websocket.ConnectionClosed
    assert issubclass(ConnectionError, SimpleWebsocketError)


@pytest.mark.parametrize(("option", "advice"), [("refuse", "WebSocketMiddleware"), ("raw", "raw=")])
def test_options_without_an_effect_are_refused(option: str, advice: str) -> None:
    with pytest.raises(TypeError, match=f"{option}.*{advice}"):
        Server.accept({}, **{option: "close"})
