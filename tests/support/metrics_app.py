"""A Flask application with metrics, for tests with several workers."""

from __future__ import annotations

import os

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import syncws.prometheus
from syncws import Session
from syncws.flask import WebSockets

syncws.prometheus.EVERY = 0.1

app = Flask(__name__)
websockets = WebSockets(app)


@websockets.route("/rooms/<room>")
def room(session: Session, room: str) -> None:
    session.send(str(os.getpid()))
    for message in session:
        session.send(message)


app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]  # as Flask documents it
    app.wsgi_app, {"/metrics": syncws.prometheus.application}
)
