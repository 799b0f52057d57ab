"""From a WSGI request to a session and its end, with a connector of the tests' own."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import requests

import syncws
from syncws import CloseReason, Frame, Opcode, Session
from syncws import django as django_views
from syncws.flask import WebSockets

from ..conftest import MakeSession
from ..support.calls import Call
from ..support.clients import exchange, handshake
from ..support.pairs import PATIENCE, frame


def test_a1_an_upgrade_is_a_wsgi_application(call: Call) -> None:
    @syncws.websocket(subprotocols=["chat"], headers=[("X-Extra", "1")])
    def echo(session: Session) -> None:
        """Echoes."""
        assert session.subprotocol == "chat"
        for message in session:
            session.send(message)

    assert (vars(echo)["__name__"], echo.__doc__) == ("echo", "Echoes.")
    call.environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] = "chat"
    result = call.run(echo)
    call.peer.send("hello")
    assert call.peer.receive() == "hello"
    call.peer.send_close(1000)
    assert call.peer.expect_close()[0] == 1000
    assert result.result(PATIENCE) == []
    assert call.status == "101 Switching Protocols"
    assert ("X-Extra", "1") in call.headers
    assert call.connector.calls == ["take_received", "accept", "opened", "closed after 11 bytes"]


@pytest.mark.parametrize("raw", [False, True])
def test_b1_the_response_has_the_subprotocol_headers_and_status_101(call: Call, raw: bool) -> None:
    seen = []
    call.environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] = "v1, v2"
    upgrade: Any = syncws.WebSocketUpgrade
    result = call.run(
        upgrade(
            lambda session: seen.append((type(session), session.subprotocol)),
            raw=raw,
            subprotocols=["v2", "v1"],
            headers=[("X-Extra", "1")],
        )
    )
    call.peer.close_socket()
    result.result(PATIENCE)
    assert call.status == "101 Switching Protocols"
    assert ("Sec-WebSocket-Protocol", "v2") in call.headers
    assert ("X-Extra", "1") in call.headers
    assert seen == [(syncws.RawSession if raw else Session, "v2")]


@pytest.mark.parametrize("installed", [False, True])
def test_b3_a_raw_session_has_extensions_only_when_asked_for(call: Call, installed: bool) -> None:
    @syncws.websocket(raw=True, compression="deflate", install_extensions=installed)
    def handler(session: syncws.RawSession) -> None:
        said.append(session.extensions)
        if installed:
            session.send_frame(Frame(Opcode.TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv1=True))
        with pytest.raises(ValueError, match="reserved bit"):
            session.send_frame(Frame(Opcode.TEXT, rsv2=True))

    said: list[str] = []
    call.environ["HTTP_SEC_WEBSOCKET_EXTENSIONS"] = "permessage-deflate; server_max_window_bits=10"
    result = call.run(handler)
    assert call.peer.socket.recv(1) == (b"\xc1" if installed else b"")
    call.peer.close_socket()
    result.result(PATIENCE)
    agreed = dict(call.headers).get("Sec-WebSocket-Extensions", "")
    assert agreed == ("permessage-deflate; server_max_window_bits=10" if installed else "")
    assert said == [agreed]


def test_decorator_without_parentheses(call: Call) -> None:
    @syncws.websocket
    def bye(session: Session) -> None:
        session.send("bye")

    result = call.run(bye)
    assert call.peer.receive() == "bye"
    assert call.peer.answer_close() == (1000, "")
    result.result(PATIENCE)


def test_handler_raises(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    @syncws.websocket
    def fails(session: Session) -> None:
        raise LookupError("of the handler's")

    result = call.run(fails)
    assert call.peer.answer_close() == (1011, "")
    assert result.result(PATIENCE) == []
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert "is closed with 1011" in record.message
    assert record.exc_info


@pytest.mark.parametrize("exit_by", [SystemExit, KeyboardInterrupt])
def test_process_exit_is_left_to_the_server(call: Call, exit_by: type[BaseException]) -> None:
    @syncws.websocket
    def leaves(session: Session) -> None:
        raise exit_by

    result = call.run(leaves)
    assert isinstance(result.exception(PATIENCE), exit_by)
    assert call.peer.expect_close() == (1011, "")
    call.peer.expect_end()


def test_own_connection_closed_is_a_normal_way_out(
    call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    @syncws.websocket
    def handler(session: Session) -> None:
        session.receive()
        session.receive()

    result = call.run(handler)
    call.peer.send("one")
    call.peer.send_close(4000)
    assert call.peer.expect_close()[0] == 4000
    result.result(PATIENCE)
    assert not caplog.records


def test_connection_closed_of_another_session_is_a_failure(
    call: Call, make_session: MakeSession, caplog: pytest.LogCaptureFixture
) -> None:
    other, _ = make_session()
    other.terminate()

    @syncws.websocket
    def handler(session: Session) -> None:
        other.send("x")

    result = call.run(handler)
    assert call.peer.answer_close() == (1011, "")
    result.result(PATIENCE)
    assert "another" not in caplog.text
    assert "ConnectionClosedError" in caplog.text


def test_end_is_certain_though_the_handler_never_looks(call: Call) -> None:
    reasons: list[CloseReason] = []

    @syncws.websocket(close_timeout=0.1)
    def handler(session: Session) -> None:
        session.close_reason.add_done_callback(lambda future: reasons.append(future.result()))

    result = call.run(handler)
    assert result.result(PATIENCE) == []
    assert reasons == [CloseReason(1000, "", "local")]
    assert call.peer.expect_close()[0] == 1000
    call.peer.expect_end()


def test_refusal(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "syncws")
    call.environ["REQUEST_METHOD"] = "POST"
    call.environ["PATH_INFO"] = "/path\nCRITICAL forged"
    body = call.run(syncws.WebSocketUpgrade(lambda session: None)).result(PATIENCE)
    assert call.status == "400 Bad Request"
    assert body == [b"A WebSocket is opened with GET, not with POST.\n"]
    assert call.connector.calls == []
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "\n" not in record.getMessage()


def test_a4_a_wsgi_application_answers_plain_requests(call: Call) -> None:
    del call.environ["HTTP_UPGRADE"]

    def page(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"page"]

    upgrade = syncws.WebSocketUpgrade(lambda session: None, on_non_websocket_request=page)
    assert call.run(upgrade).result(PATIENCE) == [b"page"]
    # A WebSocket request gone wrong is not for the page.
    call.environ["HTTP_UPGRADE"] = "websocket"
    del call.environ["HTTP_SEC_WEBSOCKET_KEY"]
    call.run(upgrade).result(PATIENCE)
    assert call.status == "400 Bad Request"


def test_no_thread_left(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("syncws.session.attending.Attending.start", start)
    call.run(syncws.WebSocketUpgrade(lambda session: None)).result(PATIENCE)
    assert call.status == "503 Service Unavailable"
    assert 5 <= int(dict(call.headers)["Retry-After"]) <= 15
    assert call.connector.calls == ["take_received"]


def test_101_that_can_not_be_sent(call: Call) -> None:
    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        raise BrokenPipeError

    call.start_response = start_response  # type: ignore[method-assign]  # a server whose peer has gone
    result = call.run(syncws.WebSocketUpgrade(lambda session: None))
    assert isinstance(result.exception(PATIENCE), BrokenPipeError)
    call.peer.expect_end()


def test_middleware_that_swallows_write(call: Call) -> None:
    call.start_response = lambda *args: None  # type: ignore[method-assign]  # such a middleware
    result = call.run(syncws.WebSocketUpgrade(lambda session: None))
    with pytest.raises(RuntimeError, match="swallows the result of start_response"):
        result.result(PATIENCE)


def test_handlers_that_can_not_be() -> None:
    async def coroutine(session: Session) -> None: ...

    with pytest.raises(TypeError, match="remove 'async'"):
        syncws.websocket(coroutine)
    with pytest.raises(TypeError, match="a handler is a function"):
        syncws.WebSocketUpgrade("echo")  # type: ignore[call-overload]  # that is the test
    with pytest.raises(ValueError, match="timeout"):
        syncws.websocket(timeout=0)(lambda session: None)


@pytest.mark.parametrize("outer", [syncws.websocket, syncws.stream, WebSockets().route("/")])
@pytest.mark.parametrize("inner", [syncws.websocket, syncws.websocket(), django_views.websocket])
def test_a_handler_of_which_a_view_was_made_is_refused_at_once(outer: Any, inner: Any) -> None:
    def echo(session: Session) -> None: ...

    with pytest.raises(TypeError, match=r"echo is not a handler any more, @syncws.*: remove @sync"):
        outer(inner(echo))
    with pytest.raises(TypeError, match=r"echo is not a handler any more, @syncws.*: remove @sync"):
        django_views.websocket(inner(echo))


def test_figures() -> None:
    """What came right behind the handshake counts; plain requests are no refusals."""
    before = syncws.stats()

    def echo(session: Session) -> None:
        for message in session:
            session.send(message)
        with pytest.raises(UnicodeEncodeError):
            session.send("\ud800")

    with syncws.serve(echo, "127.0.0.1", 0) as server:
        assert requests.get(f"http://127.0.0.1:{server.port}/", timeout=PATIENCE).status_code == 501
        _, sock, received = exchange(server.port, handshake("/") + frame(1, b"1234"))
        with sock:
            while len(received) < 6:
                received += sock.recv(6)
            sock.sendall(frame(8, b"\x03\xe8"))
            while sock.recv(100):
                pass
    after = syncws.stats()
    assert after.refused == before.refused
    assert after.bytes_received - before.bytes_received == 10 + 8
    assert after.messages_sent - before.messages_sent == 1


def test_options_beside_the_handler() -> None:
    for upgrade in (
        syncws.websocket(say, raw=True, timeout=3),
        syncws.websocket(raw=True, timeout=3)(say),
    ):
        assert (upgrade.options.raw, upgrade.options.timeout) == (True, 3)
    with pytest.raises(TypeError, match="nonsense"):
        syncws.websocket(say, nonsense=1)  # type: ignore[call-overload]  # that is the test


def say(session: syncws.RawSession) -> None: ...
