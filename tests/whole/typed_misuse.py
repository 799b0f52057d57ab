"""Mistakes that type checkers must find. An unused ``type: ignore`` is an error, too.

This file never runs. ``mypy`` and ``pyright`` check it.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest
from flask import Flask

import syncws
import syncws.django
import syncws.flask
from syncws import RawSession, Session
from syncws.testing import WebSocketClient

app = Flask(__name__)
websockets = syncws.flask.WebSockets(app)


def echo(session: Session) -> None: ...


def raw(session: RawSession) -> None: ...


def room(session: Session, room: str) -> None: ...


def view(request: HttpRequest, session: Session, room: str) -> None: ...


def not_a_handler() -> None: ...


# Misspelt, or of another type
websockets.route("/", ping_intervall=20)  # type: ignore[call-overload]  # misspelt
websockets.route("/", ping_interval="20")  # type: ignore[call-overload]  # a number
syncws.flask.WebSockets(app, pingInterval=20)  # type: ignore[call-arg]  # misspelt
syncws.websocket(compression="gzip")  # type: ignore[call-overload]  # "deflate"
syncws.connect("ws://localhost/", origins="*")  # type: ignore[call-arg]  # for servers
syncws.connect("ws://localhost/", timeout="5")  # type: ignore[arg-type]  # a number
syncws.serve(echo, "127.0.0.1", 0, nonsense=True)  # type: ignore[call-overload]  # unknown
syncws.WebSocketMiddleware(app, {}, install_extensions=True)  # type: ignore[call-arg]  # of raw

# A handler of another kind
websockets.route("/")(raw)  # type: ignore[type-var]  # without raw=True
websockets.route("/", raw=True)(echo)  # type: ignore[type-var]  # with it
websockets.route("/")(not_a_handler)  # type: ignore[type-var]  # no session
syncws.websocket(raw)  # type: ignore[arg-type]  # without raw=True

# What a decorator gives keeps its parameters
websockets.route("/<room>")(room)(1, room="red")  # type: ignore[arg-type]  # no session
syncws.django.websocket(view)(HttpRequest(), room=1)  # type: ignore[arg-type]  # a text
syncws.django.websocket(view)(HttpRequest(), rom="red")  # type: ignore[call-arg]  # misspelt


def of_types(session: Session, client: WebSocketClient) -> None:
    int.bit_length(session.receive())  # type: ignore[arg-type]  # text or bytes
    str.upper(client.connect("/").receive())  # type: ignore[arg-type]  # may be bytes
    session.send(1)  # type: ignore[arg-type]  # no message
    session.close("going away")  # type: ignore[arg-type]  # the code comes first


@dataclass
class Say:
    text: str


@dataclass
class Move:
    x: int


def of_typed_messages(session: Session) -> None:
    for message in syncws.typed(session, Say | Move):
        if isinstance(message, Say):
            message.text.upper()
            message.x.bit_length()  # type: ignore[attr-defined]  # of the other
        else:
            message.x.bit_length()
    syncws.typed(session, Say, on_invalid="ignore")  # type: ignore[call-overload]  # unknown
