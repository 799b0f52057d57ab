"""A chat: a page at /, a WebSocket at /chat, and everybody reads everything.

Run it with ``gunicorn examples.chat:app`` and open it in two browsers. With a
Redis there may be several workers, on several machines, and what was said
survives them::

    REDIS_URL=redis://localhost:6379/0 gunicorn -w 4 examples.chat:app

``curl -d text=lunch localhost:8000/notify`` shows in every open page. A page
that comes back gets what it has missed.
"""

from __future__ import annotations

import json
import os
from typing import Any

from flask import Flask, Response, request, send_from_directory

import syncws
import syncws.static
from syncws.flask import WebSockets

app = Flask(__name__)
# A chat line is short: nobody needs to send more than this.
websockets = WebSockets(app, max_message_size=16 * 1024, refuse="close")
hub = syncws.Hub(os.environ.get("REDIS_URL"), history=syncws.History(messages=500))
# The pages of this process only.
here = syncws.Hub()

MAX_NAME = 32
ROOM = "chat"


def say(name: str, text: str) -> None:
    hub.send_json(ROOM, {"type": "say", "name": name, "text": text})


@hub.on_presence
def changed(room: str, joined: dict[str, Any], left: dict[str, Any]) -> None:
    """Each process tells its own pages."""
    here.send_json(
        room,
        {
            "type": "presence",
            "joined": list(joined),
            "left": list(left),
            "count": len(hub.presence(room)),
        },
    )


@app.get("/")
def page() -> Response:
    return app.send_static_file("chat.html")


@app.get("/syncws.js")
def script() -> Response:
    return send_from_directory(syncws.static.FOLDER, "syncws.js")


@app.post("/notify")
def notify() -> str:
    say("notice", request.form["text"])
    return "sent\n"


@websockets.route("/chat")
def chat(session: syncws.Session) -> None:
    # The first message is the name, every other one is something said.
    try:
        name = str(session.receive(timeout=30)).strip()[:MAX_NAME] or "somebody"
    except TimeoutError:
        session.close(syncws.CloseCode.POLICY_VIOLATION, "say your name first")
        return
    # The id of the last message that the page has; a new page gets the last lines.
    after = request.args.get("after")
    if not after:
        for line in hub.history(ROOM, limit=50):
            session.send(line)
            after = json.loads(line)["id"]
    with here.join(ROOM, session), hub.join(ROOM, session, after=after, member=name) as joined:
        # Lines are missing, or the first ones came just before the join. The page knows doubles.
        lines = hub.history(ROOM, limit=50) if joined.gap or not after else []
        if joined.gap or lines:
            session.send_json({"type": "reload"})
            for line in lines:
                session.send(line)
        session.send_json({"type": "here", "count": len(hub.presence(ROOM))})
        for message in session:
            text = str(message).strip()
            if text:
                say(name, text)
