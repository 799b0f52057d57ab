"""Programs for flask-sock and simple-websocket that do not mention syncws."""

from __future__ import annotations

from typing import Any

import simple_websocket
from flask import Flask, request
from flask_sock import Sock

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": ["chat"], "max_message_size": 1000}
sock = Sock(app)


@sock.route("/echo")
def echo(ws: Any) -> None:
    while True:
        ws.send(ws.receive())


@sock.route("/fails")
def fails(ws: Any) -> None:
    raise LookupError("the handler fails")


@sock.route("/returns")
def returns(ws: Any) -> None:
    ws.send("the last message")


@sock.route("/flood")
def flood(ws: Any) -> None:
    while True:
        ws.send("x" * 65536)


@app.route("/own-view", websocket=True)
def own_view() -> str:
    ws = simple_websocket.Server(request.environ)
    try:
        while True:
            ws.send(ws.receive())
    except simple_websocket.ConnectionClosed:
        pass
    return "an answer that nobody wants"


@app.get("/")
def page() -> str:
    return "plain HTTP\n"


def plain(environ: Any, start_response: Any) -> Any:
    """A WSGI application that is a generator and does not catch the end of its session."""
    if environ["PATH_INFO"] != "/":
        ws = simple_websocket.Server(environ)
        if environ["PATH_INFO"] == "/fails":
            raise LookupError("the handler fails")
        while True:
            ws.send("x" * 65536 if environ["PATH_INFO"] == "/plain/flood" else ws.receive())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    yield b"plain HTTP\n"
