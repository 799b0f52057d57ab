"""syncws with Flask."""

from __future__ import annotations

from flask import Flask

import syncws
from syncws.flask import WebSockets

from . import MAX_MESSAGE_SIZE

app = Flask(__name__)
websockets = WebSockets(app, max_message_size=MAX_MESSAGE_SIZE)


@websockets.route("/echo")
def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)
