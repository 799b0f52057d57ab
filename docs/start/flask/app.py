"""A chat with Flask."""

from flask import Flask, Response, send_file

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
websockets = WebSockets(app)
hub = syncws.Hub()


@app.get("/")
def page() -> Response:
    return send_file("page.html")


@websockets.route("/chat")
def chat(session: syncws.Session) -> None:
    with hub.join("everybody", session):
        for message in session:
            hub.send("everybody", message)
