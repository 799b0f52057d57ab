"""Who may open a WebSocket of a Flask application: Flask-Login, CORS, decorators of all kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, jsonify, redirect, url_for
from flask_cors import CORS
from flask_httpauth import HTTPBasicAuth
from flask_jwt_extended import jwt_required
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    fresh_login_required,
    login_required,
    login_user,
)
from flask_security import auth_required, roles_required

import syncws
from syncws import HandshakeError, Session
from syncws.flask import WebSockets
from syncws.testing import WebSocketClient


class User(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    def __init__(self, name: str) -> None:
        self.id = name


@pytest.fixture
def app() -> Flask:
    app = Flask("tests")
    app.secret_key = "the tests'"
    login = LoginManager(app)
    login.user_loader(User)

    @app.post("/login/<name>")
    def log_in(name: str) -> str:
        login_user(User(name))
        return ""

    return app


def whoami(session: Session) -> None:
    session.send(current_user.get_id() or "nobody")


def logged_in(app: Flask, name: str = "ann") -> WebSocketClient:
    browser = app.test_client()
    browser.post(f"/login/{name}")
    return WebSocketClient(app, cookies=browser)


def refusal(app: Flask, path: str) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        WebSocketClient(app).connect(path)
    return caught.value


# Before the WebSocket opens


def test_login_required(app: Flask) -> None:
    WebSockets(app).route("/ws", decorators=[login_required])(whoami)
    assert refusal(app, "/ws").status == 401
    with logged_in(app).connect("/ws") as peer:
        assert peer.receive() == "ann"


def test_login_required_may_redirect(app: Flask) -> None:
    app.login_manager.login_view = "log_in"  # type: ignore[attr-defined]  # set by Flask-Login
    app.view_functions.pop("log_in")
    app.add_url_rule("/log-in", "log_in", lambda: "")
    WebSockets(app).route("/ws", decorators=[login_required])(whoami)
    error = refusal(app, "/ws")
    assert (error.status, dict(error.headers)["Location"]) == (302, "/log-in?next=%2Fws")


def test_a_blueprint_for_users_only(app: Flask) -> None:
    """Nested, too; and the innermost WebSocket has its URL."""
    outer = Blueprint("outer", __name__, url_prefix="/members")
    inner = Blueprint("inner", __name__, url_prefix="/<club>")

    outer.before_request(login_required(lambda: None))

    @WebSockets(inner).route("/ws")
    def room(session: Session, club: str) -> None:
        session.send(f"{club} {current_user.get_id()} {url_for('outer.inner.room', club='x')}")

    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    assert refusal(app, "/members/chess/ws").status == 401
    with logged_in(app).connect("/members/chess/ws") as peer:
        assert peer.receive() == "chess ann ws://localhost/members/x/ws"


def test_decorators_act_in_flasks_order(app: Flask) -> None:
    seen: list[str] = []

    def noting(name: str) -> Callable[[Any], Any]:
        def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(view)
            def noted(**parameters: Any) -> Any:
                seen.append(f"{name} {parameters['room']}")
                return view(**parameters)

            return noted

        return decorate

    @WebSockets(app).route("/ws/<room>", decorators=[noting("second"), noting("first")])
    def handler(session: Session, room: str) -> None:
        seen.append(f"handler {room}")

    WebSocketClient(app).connect("/ws/red").close()
    assert seen == ["first red", "second red", "handler red"]


def test_plain_requests_are_told_so_behind_decorators_too(app: Flask) -> None:
    def bare(view: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **parameters: view(**parameters)  # without functools.wraps()

    WebSockets(app).route("/ws", decorators=[bare], endpoint="ws")(whoami)
    assert app.test_client().get("/ws").status_code == 501


def test_cors_headers_are_not_in_the_way(app: Flask) -> None:
    CORS(app, origins=["https://example.com"], supports_credentials=True)
    WebSockets(app, origins=["https://example.com"]).route("/ws")(whoami)
    friend = WebSocketClient(app, headers={"Origin": "https://example.com"})
    with friend.connect("/ws") as peer:
        assert peer.receive() == "nobody"
        assert dict(peer.headers)["Access-Control-Allow-Origin"] == "https://example.com"
    stranger = WebSocketClient(app, headers={"Origin": "https://evil.example"})
    with pytest.raises(HandshakeError, match="403"):
        stranger.connect("/ws")


# When it is open already


def aborts(session: Session) -> Any:
    abort(404)


def aborts_with_a_response(session: Session) -> Any:
    abort(Response("no", status=403))


def redirects(session: Session) -> Any:
    return redirect("/log-in")


def answers(session: Session) -> Any:
    return jsonify(error="no"), 401


def breaks(session: Session) -> Any:
    abort(500)


@pytest.mark.parametrize(
    ("handler", "code", "status"),
    [
        (aborts, 1008, 404),
        (aborts_with_a_response, 1008, 403),
        (redirects, 1008, 302),
        (answers, 1008, 401),
        (breaks, 1011, 500),
    ],
)
def test_an_answer_that_comes_too_late(
    app: Flask,
    caplog: pytest.LogCaptureFixture,
    handler: Callable[..., Any],
    code: int,
    status: int,
) -> None:
    WebSockets(app).route("/ws", endpoint="ws")(handler)
    with WebSocketClient(app).connect("/ws") as peer:
        with pytest.raises(syncws.ConnectionClosedError):
            peer.receive()
        assert peer.wait_closed().code == code
    (message,) = caplog.messages
    assert f"the status {status}, which is too late" in message
    assert "decorators=" in message


def test_what_else_a_handler_returns_means_nothing(app: Flask) -> None:
    WebSockets(app).route("/ws", endpoint="ws")(lambda session: ("a", "b"))
    with WebSocketClient(app).connect("/ws") as peer:
        assert peer.wait_closed().code == 1000


# On the handler, where it would come too late


@pytest.mark.parametrize(
    ("package", "guard"),
    [
        ("flask_login", login_required),
        ("flask_login", fresh_login_required),
        ("flask_httpauth", HTTPBasicAuth().login_required),
        ("flask_httpauth", HTTPBasicAuth().login_required(role="admin")),
        ("flask_jwt_extended", jwt_required()),
        ("flask_security", auth_required()),
        ("flask_security", roles_required("admin")),
    ],
)
def test_a_guard_on_the_handler_is_refused_when_the_route_is_made(package: str, guard: Any) -> None:
    def audited(handler: Any) -> Any:
        @functools.wraps(handler)
        def wrapper(*args: Any) -> Any:
            return handler(*args)

        return wrapper

    websockets = WebSockets()
    for handler in (guard(whoami), audited(guard(whoami)), guard(audited(whoami))):
        with pytest.raises(TypeError, match=f"a decorator of {package} is on the handler") as error:
            websockets.route("/ws")(handler)
        assert '@websockets.route("/ws", decorators=[...])' in str(error.value)
    websockets.route("/ws", decorators=[guard])(audited(whoami))
