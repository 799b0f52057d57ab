"""A program for Flask-SocketIO that does not mention syncws."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_socketio import SocketIO, emit, join_room

app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading")


@app.get("/")
def page() -> str:
    return "plain HTTP\n"


@app.get("/sockets")
def sockets() -> str:
    return str(len(socketio.server.eio.sockets))


@app.get("/broadcast")
def broadcast() -> str:
    socketio.emit("news", "to all", to="room")
    return "sent"


@socketio.on("connect")
def connected() -> None:
    join_room("room")


@socketio.on("say")
def say(text: Any) -> Any:
    emit("heard", text)
    return text


@socketio.on("flood")
def flood() -> None:
    for _ in range(1000):
        emit("heard", "x" * 65536)
