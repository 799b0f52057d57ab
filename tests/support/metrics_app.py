"""A Flask application with metrics, for tests with several workers."""

from __future__ import annotations

import os

from flask import Flask, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import syncws.prometheus
from syncws import Session
from syncws.flask import WebSockets

syncws.prometheus.EVERY = 0.1

app = Flask(__name__)
websockets = WebSockets(app)
# The bus of the tests' own environment; what is sent does not wait for a member.
hub = syncws.Hub(os.environ.get("REDIS_URL"), prefix="shop", queue=1, on_full="drop_newest")


@websockets.route("/rooms/<room>")
def room(session: Session, room: str) -> None:
    session.send(str(os.getpid()))
    with hub.join(room, session), hub.join("all", session):
        for message in session:
            session.send(message)


@app.post("/all")
def send_to_all() -> str:
    """Send a message of so many bytes to everybody."""
    hub.send("all", bytes(int(request.args["size"])))
    return str(os.getpid())


app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]  # as Flask documents it
    app.wsgi_app, {"/metrics": syncws.prometheus.application}
)
