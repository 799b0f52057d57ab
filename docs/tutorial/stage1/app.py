"""A chat: everybody reads what everybody says."""

from flask import Flask, render_template

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
websockets = WebSockets(app)
hub = syncws.Hub()


@app.get("/")
def page() -> str:
    return render_template("chat.html")


@websockets.route("/chat")
def chat(session: syncws.Session) -> None:
    with hub.join("everybody", session):
        for message in session:
            hub.send_json("everybody", {"text": str(message)})
