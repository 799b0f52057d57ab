"""Applications that refuse, with ``refuse="close"``, for tests under several servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flask
from flask_sock import Sock

import syncws
from syncws.flask import WebSockets

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


in_flask = flask.Flask(__name__)
in_flask.secret_key = "not secret"
websockets = WebSockets(in_flask)
websockets.route("/flask/echo")(echo)
websockets.route("/flask/login", endpoint="login", refuse="close")(echo)
websockets.route("/flask/status", endpoint="status")(echo)


@in_flask.before_request
def ask_for_a_login() -> Any:
    if flask.request.path == "/flask/echo":
        return None
    flask.session["next"] = flask.request.path
    return flask.redirect("/login")


#: The same program as on flask-sock, which does not mention syncws.
on_flask_sock = flask.Flask(__name__)
on_flask_sock.config["SOCK_SERVER_OPTIONS"] = {"origins": None}
sock = Sock(on_flask_sock)


@sock.route("/sock/echo")  # type: ignore[untyped-decorator]  # flask-sock has no types
def sock_echo(ws: Any) -> None:
    while True:
        ws.send(ws.receive())


@on_flask_sock.before_request
def forbid() -> None:
    if flask.request.path == "/sock/forbidden":
        flask.abort(403)


#: One session, and a refusal for each other one.
limited = syncws.websocket(
    echo, refuse="close", sessions_per=lambda environ: "everybody", max_sessions=1
)

#: The same without the option.
unreadable = syncws.websocket(echo, sessions_per=lambda environ: "everybody here", max_sessions=1)


APPLICATIONS: dict[str, WSGIApplication] = {
    "flask": in_flask,
    "sock": syncws.WebSocketMiddleware(on_flask_sock, refuse="close", origins="*"),
    "limited": limited,
    "unreadable": unreadable,
}


def application(environ: Any, start_response: Any) -> Any:
    return APPLICATIONS[environ["PATH_INFO"].split("/")[1]](environ, start_response)
