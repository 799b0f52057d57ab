"""``syncws.testing``: the client, the peer, and cookies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import django.test
import flask
import pytest
import werkzeug.test

import syncws
from examples.django_echo import app as django_app
from syncws import HandshakeError, Session
from syncws.flask import WebSockets
from syncws.testing import Peer, WebSocketClient

from ..support.pairs import PATIENCE


@syncws.websocket(subprotocols=["chat"], compression="deflate", origins=["https://example.com"])
def echo(session: Session) -> None:
    for message in session:
        if message == "fail":
            raise ZeroDivisionError("as it was told")
        if message == "close":
            session.close(4000, "as it was told")
        session.send(message)


def connected(handler: Callable[[Session], Any], **options: Any) -> Peer:
    return WebSocketClient(syncws.WebSocketUpgrade(handler, **options)).connect("/")


# Sessions


def test_messages_of_all_sizes_both_ways() -> None:
    with WebSocketClient(echo).connect("/echo") as peer:
        for message in ("", "héllo", b"", b"\x00" * 3_000_000):
            peer.send(message[:1_000_000])
            assert peer.receive() == message[:1_000_000]
        peer.send_json({"a": [1, None]})
        assert peer.receive_json() == {"a": [1, None]}
    assert peer.wait_closed().cause == "local"
    assert peer.session.wait_closed().cause == "peer"


def test_many_large_messages_before_any_is_read() -> None:
    """The peer's thread reads, and so neither end holds up the other."""
    with WebSocketClient(echo).connect("/echo") as peer:
        for _ in range(20):
            peer.send(b"x" * 1_000_000)
        for _ in range(20):
            assert len(peer.receive()) == 1_000_000


def test_what_is_agreed_on() -> None:
    client = WebSocketClient(echo, headers={"Origin": "https://example.com"})
    with client.connect("/", subprotocols=["other", "chat"], compression="deflate") as peer:
        assert peer.subprotocol == "chat"
        assert "permessage-deflate" in dict(peer.headers)["Sec-WebSocket-Extensions"]
        peer.send("x" * 10_000)
        assert peer.receive() == "x" * 10_000
        assert cast(Session, peer.session)._traffic().bytes_received < 1_000, "it was deflated"


def test_a_refusal_has_status_headers_and_body() -> None:
    client = WebSocketClient(echo, headers={"Origin": "https://evil.example"})
    with pytest.raises(HandshakeError, match="403") as caught:
        client.connect("/")
    assert caught.value.status == 403
    assert ("Content-Type", "text/plain; charset=utf-8") in caught.value.headers
    assert b"evil.example" in caught.value.body


def test_a_refusal_at_length_is_not_waited_for() -> None:
    def at_length(environ: Any, start_response: Any) -> Any:
        start_response("403 Forbidden", [])
        return [b"no" * 10_000_000]

    with pytest.raises(HandshakeError, match="403"):
        WebSocketClient(at_length, timeout=1000).connect("/")


@pytest.mark.parametrize("path", ["rooms/red", "ws://localhost/rooms/red", "", "?room=red"])
def test_a_path_begins_with_a_slash(path: str) -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        WebSocketClient(echo).connect(path)


def test_the_request_is_what_a_server_would_see() -> None:
    seen: list[Any] = []
    client = WebSocketClient(
        syncws.websocket(origins="*")(lambda session: seen.append(session.environ)),
        host="example.com:8080",
        secure=True,
        environ={"REMOTE_USER": "ann"},
    )
    client.connect("/a%20b?x=1&y=é", headers=[("X-One", "1"), ("X-One", "2")]).close()
    (environ,) = seen
    expected = {
        "PATH_INFO": "/a b",
        "QUERY_STRING": "x=1&y=%C3%A9",
        "HTTP_HOST": "example.com:8080",
        "SERVER_PORT": "8080",
        "HTTP_X_ONE": "1,2",
        "REMOTE_USER": "ann",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "https",
    }
    assert {key: environ[key] for key in expected} == expected


def test_iterating_ends_with_the_session() -> None:
    def count(session: Session) -> None:
        for number in range(3):
            session.send(str(number))

    with connected(count) as peer:
        assert list(peer) == ["0", "1", "2"]


# Failures


def test_a_handlers_exception_reaches_the_test() -> None:
    peer = WebSocketClient(echo).connect("/")
    peer.send("fail")
    with pytest.raises(ZeroDivisionError, match="as it was told"):
        peer.receive()
    peer.close()  # raises it once only
    assert peer.wait_closed().code == 1011


def test_a_handlers_exception_reaches_a_test_that_receives_nothing() -> None:
    peer = WebSocketClient(echo).connect("/")
    peer.send("fail")
    with pytest.raises(ZeroDivisionError):
        peer.close()


class Raises(syncws.Listener):
    def on_text(self, session: Session, process: Any, text: str) -> None:
        raise ZeroDivisionError


def test_what_other_shapes_of_a_handler_raise_reaches_the_test() -> None:
    def fail(message: object) -> None:
        raise ZeroDivisionError

    for handler in (Raises(), syncws.exchange(send=["x"], receive=fail)):
        for _ in range(5):
            peer = connected(handler)
            peer.send("x")
            with pytest.raises(ZeroDivisionError):
                list(peer)
            peer.close()


def test_the_tests_own_exception_comes_first() -> None:
    with pytest.raises(KeyError), WebSocketClient(echo).connect("/") as peer:  # noqa: PT012  # the block is what is tested
        peer.send("fail")
        peer.wait_closed()
        raise KeyError


def test_exceptions_as_a_real_client_sees_them() -> None:
    with WebSocketClient(echo, raise_exceptions=False).connect("/") as peer:
        peer.send("fail")
        with pytest.raises(syncws.ConnectionClosedError) as caught:
            peer.receive()
        assert caught.value.reason.code == 1011


def test_what_the_application_raises_is_raised() -> None:
    def fails(environ: Any, start_response: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        WebSocketClient(fails).connect("/")


def test_receiving_after_the_end() -> None:
    with WebSocketClient(echo).connect("/") as peer:
        peer.send("close")
        with pytest.raises(syncws.ConnectionClosedError) as caught:
            peer.receive()
        assert (caught.value.reason.code, caught.value.reason.reason) == (4000, "as it was told")
        with pytest.raises(syncws.ConnectionClosedError):
            peer.send("more")
        assert list(caught.value.session.environ["PATH_INFO"]) == ["/"]


def test_a_time_out_says_where_the_handler_is() -> None:
    def waits(session: Session) -> None:
        session.receive()

    with connected(waits) as peer, pytest.raises(TimeoutError, match=r"(?s)waits\(\).*receive"):
        peer.receive(timeout=0.01)


def test_a_handler_that_goes_on_is_reported_by_name() -> None:
    end = threading.Event()

    def goes_on(session: Session) -> None:
        end.wait(PATIENCE)

    client = WebSocketClient(syncws.websocket(close_timeout=0.1)(goes_on))
    peer = client.connect("/here")
    with pytest.raises(RuntimeError, match=r"(?s)goes_on\(\) of '/here'.*end\.wait"):
        peer.close(timeout=0.01)
    end.set()


def test_an_application_that_does_not_answer() -> None:
    end = threading.Event()

    def silent(environ: Any, start_response: Any) -> Any:
        end.wait(PATIENCE)
        start_response("200 OK", [])
        return []

    client = WebSocketClient(silent, timeout=0.05)
    with pytest.raises(TimeoutError, match=r"(?s)no answer.*end\.wait"):
        client.connect("/")
    end.set()


# A peer that misbehaves


def reason_of(peer: Peer) -> syncws.CloseReason:
    return peer.session.wait_closed(PATIENCE)


def test_pings_and_pongs() -> None:
    trips: list[float] = []

    def pings(session: Session) -> None:
        trips.append(session.ping().result(PATIENCE))
        session.receive()

    with connected(pings) as peer:
        peer.ping(b"mine")
        assert peer.receive_pong() == b"mine"
        assert len(peer.receive_ping()) == 8
    assert len(trips) == 1


def test_a_reset() -> None:
    peer = connected(lambda session: session.receive())
    peer.reset()
    assert reason_of(peer).cause == "error"
    peer.close()


def test_going_away_without_a_word() -> None:
    peer = connected(lambda session: session.receive())
    peer.disconnect()
    assert reason_of(peer).cause == "eof"
    peer.close()


def test_going_away_with_messages_unread_is_no_reset() -> None:
    sent = threading.Event()

    def sends(session: Session) -> None:
        session.send("unread")
        sent.set()
        session.receive()

    peer = connected(sends)
    peer.stall()
    assert sent.wait(PATIENCE)
    peer.disconnect()
    assert reason_of(peer).cause == "eof"
    peer.close()


def test_bytes_that_are_no_frame() -> None:
    with connected(lambda session: session.receive()) as peer:
        peer.send_bytes(b"\xff\xff")
        assert peer.wait_closed().code == 1002


def test_the_peer_closes_its_end_when_the_session_has() -> None:
    """As a browser does: the session, which waits for that, need not do so for long."""
    peer = connected(lambda session: session.receive(), max_message_size=10, close_timeout=1000)
    peer.send("x" * 100)
    assert peer.session.wait_closed(PATIENCE).code == 1009
    peer.close()


def test_a_message_one_byte_at_a_time() -> None:
    with WebSocketClient(echo).connect("/") as peer:
        for byte in b"\x81\x82\x00\x00\x00\x00hi":
            peer.send_bytes(bytes([byte]))
        assert peer.receive() == "hi"


def test_a_session_that_breaks_the_protocol() -> None:
    def handler(session: syncws.RawSession) -> None:
        session.send_frame(syncws.Frame(syncws.Opcode.CONTINUATION, b"", unchecked=True))

    peer = WebSocketClient(syncws.websocket(raw=True)(handler)).connect("/")
    assert peer.wait_closed().cause == "protocol_error"
    peer.close()


# Cookies


def flask_app() -> flask.Flask:
    app = flask.Flask("tests")
    app.secret_key = "the tests'"

    @app.post("/login")
    def login() -> str:
        flask.session["user"] = "Ann"
        return ""

    @WebSockets(app).route("/whoami")
    def whoami(session: Session) -> None:
        session.send(flask.session.get("user", "nobody"))
        session.send(flask.request.headers.get("Cookie", ""))

    return app


def test_cookies_of_flasks_client() -> None:
    app = flask_app()
    client = app.test_client()
    with WebSocketClient(app, cookies=client).connect("/whoami") as peer:
        assert peer.receive() == "nobody"
    client.post("/login")
    client.set_cookie("other", "x", domain="elsewhere.example")
    with WebSocketClient(app, cookies=client).connect("/whoami") as peer:
        assert peer.receive() == "Ann"
        assert "other" not in peer.receive(), "it is another site's"
    assert client.get("/").status_code == 404, "the client goes on"


def test_cookies_of_werkzeugs_client_and_of_a_mapping() -> None:
    app = flask_app()
    client = werkzeug.test.Client(app)
    client.set_cookie("a", "1")
    for cookies in (client, {"a": "1"}):
        with WebSocketClient(app, cookies=cookies).connect("/whoami") as peer:
            peer.receive()
            assert peer.receive() == "a=1"
    with pytest.raises(TypeError, match="a mapping"):
        WebSocketClient(app, cookies="a=1").connect("/whoami")


def test_cookies_of_djangos_client() -> None:
    client = django.test.Client()
    assert client.get("/").status_code == 200
    websockets = WebSocketClient(django_app, cookies=client)
    with websockets.connect("/ws/lobby/?secret=open") as peer:
        assert peer.receive() == "hello, somebody"
        assert "HTTP_COOKIE" in peer.session.environ
        cookie = peer.session.environ["HTTP_COOKIE"]
        assert cookie == f"sessionid={client.cookies['sessionid'].value}"
