"""A chat: a page at /, a WebSocket at /chat, and everybody reads everything.

Run it with ``gunicorn examples.chat:app`` and open it in two browsers. With a
Redis there may be several workers, on several machines::

    REDIS_URL=redis://localhost:6379/0 gunicorn -w 4 examples.chat:app

``curl -d text=lunch localhost:8000/notify`` shows in every open page.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
# A chat line is short: nobody needs to send more than this.
websockets = WebSockets(app, max_message_size=16 * 1024)
hub = syncws.Hub(os.environ.get("REDIS_URL"))

PAGE = Path(__file__).with_name("chat.html").read_text(encoding="utf-8")
MAX_NAME = 32


ROOM = "chat"


def tell(kind: str, **what: Any) -> None:
    """Tell everybody. Without its bus the hub tells those in this process."""
    with contextlib.suppress(syncws.HubError):
        what["count"] = hub.count(ROOM)
    with contextlib.suppress(syncws.HubError):
        hub.send(ROOM, json.dumps({"type": kind, **what}))


@app.get("/")
def page() -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@app.post("/notify")
def notify() -> str:
    tell("say", name="notice", text=request.form["text"])
    return "sent\n"


@websockets.route("/chat")
def chat(session: syncws.Session) -> None:
    # The first message is the name, every other one is something said.
    try:
        name = str(session.receive(timeout=30)).strip()[:MAX_NAME] or "somebody"
    except TimeoutError:
        session.close(syncws.CloseCode.POLICY_VIOLATION, "say your name first")
        return
    try:
        with hub.join(ROOM, session):
            tell("join", name=name)
            for message in session:
                text = str(message).strip()
                if text:
                    tell("say", name=name, text=text)
    finally:
        tell("leave", name=name)
