"""A program that imports ``syncws.compat`` itself, for any supported server."""

from __future__ import annotations

from typing import Any

from flask import Flask, request
from flask_socketio import SocketIO

import syncws.compat.engineio  # noqa: F401  # what it replaces is the test
from syncws.compat.flask_sock import Sock
from syncws.compat.simple_websocket import ConnectionClosed, Server

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": "chat", "max_message_size": 1000}
sock = Sock(app)
socketio = SocketIO(app, async_mode="threading")


@sock.route("/echo/<name>")
def echo(ws: Server, name: str) -> None:
    while True:
        ws.send(f"{name}: {ws.receive()!s}")


@app.route("/own-view", websocket=True)
def own_view() -> str:
    ws = Server(request.environ)
    try:
        while (message := ws.receive()) != "close":
            ws.send(message)
        ws.close(4001, "enough")
    except ConnectionClosed:
        pass
    return "an answer that nobody wants"


@app.get("/")
def page() -> str:
    return "plain HTTP\n"


@socketio.on("say")
def say(text: Any) -> Any:
    return text
