"""Flask-SocketIO, beside flask-sock, which serves the session that each measurement begins with."""

from __future__ import annotations

from typing import Any

from flask_socketio import SocketIO, emit

from .flask_sock import app

socketio = SocketIO(app, async_mode="threading")


@app.get("/")
def page() -> str:
    return "plain HTTP\n"


@socketio.on("say")
def say(text: Any) -> None:
    emit("say", text)
