"""Applications that use the socket of the worker's connection directly."""

from __future__ import annotations

import threading
from typing import Any

from flask import Flask
from flask_sock import Sock

from .app import status

app = Flask(__name__)
app.add_url_rule("/status", view_func=status)
sock = Sock(app)


@sock.route("/echo")  # type: ignore[untyped-decorator,unused-ignore]  # flask-sock has no types
def echo(ws: Any) -> None:
    while True:
        ws.send(ws.receive())


def answers_late(environ: Any, start_response: Any) -> Any:
    """An application whose handler ends before its thread has answered."""
    connection = environ["gunicorn.socket"]
    received = threading.Event()

    def answer() -> None:
        connection.recv(100)
        received.set()
        returned.wait(10)
        connection.sendall(b"late")

    class Body:
        def __iter__(self) -> Any:
            return iter([])

        def close(self) -> None:
            threading.Timer(0.2, returned.set).start()

    returned = threading.Event()
    threading.Thread(target=answer, daemon=True).start()
    start_response("101 Switching Protocols", [])(b"")
    received.wait(10)
    return Body()
