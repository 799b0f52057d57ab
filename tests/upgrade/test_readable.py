"""refuse="close": which refusals a page can read, with which code and reason, and who gets them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import flask
import pytest
import requests

import syncws
from syncws import ClientSession, HandshakeError, WebSocketMiddleware, connect
from syncws.flask import WebSockets
from syncws.upgrade.close_codes import close_code

from ..support.pairs import PATIENCE
from ..support.serving import echo

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def from_a_page(server: syncws.Server, path: str, **options: Any) -> ClientSession:
    host = f"127.0.0.1:{server.port}"
    headers = {"Origin": f"http://{host}", **options.pop("headers", {})}
    return connect(f"ws://{host}{path}", headers=headers, redirects=0, **options)


def ending(server: syncws.Server, path: str, **options: Any) -> tuple[int, str]:
    session = from_a_page(server, path, **options)
    with pytest.raises(syncws.ConnectionClosed) as caught:
        session.receive(PATIENCE)
    session.close()
    return caught.value.reason.code, caught.value.reason.reason


def flask_app(**options: Any) -> flask.Flask:
    app = flask.Flask(__name__)
    websockets = WebSockets(app, **options)

    @app.before_request
    def guard() -> Any:
        if flask.request.path == "/login-first":
            return flask.redirect("/login?next=/x")
        if flask.request.path == "/busy":
            return flask.Response("Come back later.\nPlease.", 503, content_type="text/plain")
        if flask.request.path.startswith("/status/"):
            flask.abort(int(flask.request.path[8:]))
        return None

    websockets.route("/echo")(echo)
    return app


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/status/401", 3000, "401 UNAUTHORIZED"),
        ("/status/403", 3003, "403 FORBIDDEN"),
        ("/nothing", 4404, "404 NOT FOUND"),
        ("/status/429", 4429, "429 TOO MANY REQUESTS"),
        ("/busy", 1013, "Come back later."),
        ("/login-first", 3000, "/login?next=/x"),
    ],
)
def test_f9_a_page_can_read_what_flask_refuses(path: str, code: int, reason: str) -> None:
    with syncws.serve(flask_app(refuse="close"), "127.0.0.1") as server:
        assert ending(server, path) == (code, reason)


def test_the_option_may_stand_in_the_configuration() -> None:
    app = flask_app()
    app.config["SYNCWS_REFUSE"] = "close"
    with syncws.serve(app, "127.0.0.1") as server:
        assert ending(server, "/nothing")[0] == 4404


def test_the_option_may_be_a_blueprints() -> None:
    app = flask.Flask(__name__)
    blueprint = flask.Blueprint("sockets", __name__)
    WebSockets(blueprint, refuse="close").route("/echo")(echo)
    app.register_blueprint(blueprint)
    with syncws.serve(app, "127.0.0.1") as server:
        assert ending(server, "/nothing")[0] == 4404


def test_f9_other_clients_keep_the_status() -> None:
    with syncws.serve(flask_app(refuse="close"), "127.0.0.1") as server:
        for path, status in [("/status/401", 401), ("/login-first", 302), ("/nothing", 404)]:
            with pytest.raises(HandshakeError) as caught:
                connect(f"ws://127.0.0.1:{server.port}{path}", redirects=0)
            assert caught.value.status == status


def test_it_is_off_by_default() -> None:
    with syncws.serve(flask_app(), "127.0.0.1") as server:
        with pytest.raises(HandshakeError) as caught:
            from_a_page(server, "/status/401")
        assert caught.value.status == 401


def test_f9_a_foreign_page_is_refused_before_it_opens() -> None:
    with syncws.serve(flask_app(refuse="close"), "127.0.0.1") as server:
        for path in ["/echo", "/status/401"]:
            with pytest.raises(HandshakeError) as caught:
                from_a_page(server, path, headers={"Origin": "https://evil.example"})
            assert caught.value.status in (401, 403)


def test_a_route_may_allow_fewer_origins() -> None:
    """Its refusal of an origin stays a status, though the installed options allow all."""
    app = flask.Flask(__name__)
    websockets = WebSockets(app, refuse="close", origins="*")
    websockets.route("/strict", origins=["https://example.com"])(echo)
    with syncws.serve(app, "127.0.0.1") as server:
        with pytest.raises(HandshakeError) as caught:
            from_a_page(server, "/strict")
        assert caught.value.status == 403
        assert ending(server, "/nothing")[0] == 4404


def test_sessions_and_pages_are_as_before() -> None:
    with (
        syncws.serve(flask_app(refuse="close"), "127.0.0.1") as server,
        from_a_page(server, "/echo") as session,
    ):
        session.send("x")
        assert session.receive(PATIENCE) == "x"


def test_a_subprotocol_that_was_offered_is_chosen() -> None:
    """Browsers fail a connection whose server chooses none of them."""
    with syncws.serve(flask_app(refuse="close"), "127.0.0.1") as server:
        session = from_a_page(server, "/status/401", subprotocols=["a", "b"])
        assert session.subprotocol == "a"
        with pytest.raises(syncws.ConnectionClosed):
            session.receive(PATIENCE)
        session.close()


def generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("401 Unauthorized", [("Content-Type", "text/plain")])
    yield b"say "
    yield "wer bist d\u00fc\u00fc".encode() * 20


def writer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("401 Unauthorized", [("Content-Type", "text/plain")])(b"who are you")
    return []


class Closing:
    """A response that has to be closed (PEP 3333)."""

    closed = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("401 Unauthorized", [("Content-Type", "text/plain")])
        return self

    def __iter__(self) -> Any:
        yield b"closing"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("application", [generator, writer])
def test_f9_the_middleware_does_it_for_every_framework(application: WSGIApplication) -> None:
    wrapped = WebSocketMiddleware(application, {"/echo": echo}, refuse="close")
    with syncws.serve(wrapped, "127.0.0.1") as server:
        code, reason = ending(server, "/")
        assert code == 3000
        assert reason.startswith(("say wer bist d", "who are you"))
        assert len(reason.encode()) <= 123
        with from_a_page(server, "/echo") as session:
            session.send("x")
            assert session.receive(PATIENCE) == "x"


def test_the_response_is_closed() -> None:
    application = Closing()
    with syncws.serve(WebSocketMiddleware(application, refuse="close"), "127.0.0.1") as server:
        assert ending(server, "/") == (3000, "closing")
    assert application.closed


@pytest.mark.parametrize("first", ["101 Switching Protocols", "200 OK", "401 Unauthorized"])
def test_an_answer_that_is_replaced(first: str) -> None:
    """An application that fails may replace its answer before it has given a part of it."""

    def replacing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(first, [("Content-Type", "text/plain")])
        try:
            raise LookupError
        except LookupError:
            start_response("500 Failed", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"it failed"]

    with syncws.serve(WebSocketMiddleware(replacing, refuse="close"), "127.0.0.1") as server:
        if first.startswith("401"):  # the refusal that becomes a Close is the later one
            assert ending(server, "/") == (1011, "it failed")
            return
        with pytest.raises(HandshakeError) as caught:
            from_a_page(server, "/")
    assert (caught.value.status, caught.value.body) == (500, b"it failed")


def test_a_page_that_is_no_websocket_is_passed_on() -> None:
    wrapped = WebSocketMiddleware(generator, refuse="close")
    with syncws.serve(wrapped, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.port}/"
        answer = requests.get(url, headers={"Origin": url[:-1]}, timeout=PATIENCE)
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("status", "code"),
    [(101, None), (200, None), (301, 4301), (302, 3000), (400, 4400), (418, 4418), (500, 1011)],
)
def test_close_codes(status: int, code: int | None) -> None:
    assert close_code(status) == code


def test_the_option_is_checked() -> None:
    wrong: Any = "open"
    with pytest.raises(ValueError, match='refuse is "close" or None'):
        syncws.Options(refuse=wrong)
