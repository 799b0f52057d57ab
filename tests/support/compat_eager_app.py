"""Programs that open a session in the middle of a request, and leave it open."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from flask import Flask, request

import syncws
from syncws.compat.simple_websocket import ConnectionClosed, Server
from syncws.flask import WebSockets

app = Flask(__name__)


class Rooms(Server):
    """A subclass, for its name."""


@app.route("/returns", websocket=True)
def returns() -> str:
    Server(request.environ).send("open")
    return "an answer that nobody wants"


@app.route("/raises", websocket=True)
def raises() -> str:
    Server(request.environ).send("open")
    raise LookupError("the view fails")


@app.route("/closes-elsewhere", websocket=True)
def closes_elsewhere() -> str:
    ws = Server(request.environ)
    ws.send("open")
    closing = threading.Thread(target=ws.close)
    closing.start()
    closing.join()
    return "an answer that nobody wants"


@app.route("/twice", websocket=True)
def twice() -> str:
    ws = Server(request.environ)
    try:
        Server(request.environ)
    except RuntimeError as exc:
        ws.send(str(exc))
    return "an answer that nobody wants"


@app.route("/route/<name>", websocket=True)
def route(name: str) -> str:
    ws = Server(request.environ)
    ws.send(request.environ["syncws.route"])
    with contextlib.suppress(ConnectionClosed):
        ws.receive()
    return ""


@app.get("/open")
def open_sessions() -> str:
    return str(syncws.stats().open)


def plain(environ: Any, start_response: Any) -> Any:
    """Without a framework: says nothing to the server, as flask-sock does on gunicorn."""
    if environ["PATH_INFO"] == "/open":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1")])
        return [str(syncws.stats().open).encode()]
    ws = Rooms(environ)
    ws.send(environ["syncws.route"])
    raise StopIteration


#: Pages can read what this application refuses, and it fails when its session is open.
refuses = Flask(__name__)
WebSockets(refuses, refuse="close")


@refuses.route("/forbidden", websocket=True)
def forbidden() -> Any:
    return "not today", 403, {"Content-Type": "text/plain"}


@refuses.route("/fails", websocket=True)
def fails() -> Any:
    Server(request.environ).send("open")
    return "", 500


@refuses.get("/opened")
def opened() -> str:
    return str(syncws.stats().opened)
