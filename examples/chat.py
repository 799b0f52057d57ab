"""A chat: a page at /, a WebSocket at /chat, and everybody reads everything.

Run it with ``gunicorn examples.chat:app`` and open it in two browsers.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from flask import Flask, Response

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
# A chat line is short: nobody needs to send more than this.
websockets = WebSockets(app, max_message_size=16 * 1024)

PAGE = Path(__file__).with_name("chat.html").read_text(encoding="utf-8")
MAX_NAME = 32


class Room:
    """The members of the chat, in this process."""

    def __init__(self) -> None:
        # Guards the members, and is held while a message goes out, so that all
        # members read all messages in the same order.
        self._lock = threading.Lock()
        self._members: dict[syncws.Session, str] = {}

    def join(self, session: syncws.Session, name: str) -> None:
        with self._lock:
            self._members[session] = name
            self._tell_all({"type": "join", "name": name, "members": self._names()})

    def leave(self, session: syncws.Session) -> None:
        with self._lock:
            name = self._members.pop(session)
            self._tell_all({"type": "leave", "name": name, "members": self._names()})

    def say(self, session: syncws.Session, text: str) -> None:
        with self._lock:
            self._tell_all({"type": "say", "name": self._members[session], "text": text})

    def _names(self) -> list[str]:
        return sorted(self._members.values(), key=str.lower)

    def _tell_all(self, message: dict[str, Any]) -> None:
        for member in self._members:
            # Whoever does not read for a second is dropped; its own handler
            # then leaves the room. The others do not wait any longer.
            with contextlib.suppress(syncws.ConnectionClosed, TimeoutError):
                member.send_json(message, timeout=1)


room = Room()


@app.get("/")
def page() -> Response:
    return Response(PAGE, content_type="text/html; charset=utf-8")


@websockets.route("/chat")
def chat(session: syncws.Session) -> None:
    # The first message is the name, every other one is something said.
    try:
        name = str(session.receive(timeout=30)).strip()[:MAX_NAME] or "somebody"
    except TimeoutError:
        session.close(syncws.CloseCode.POLICY_VIOLATION, "say your name first")
        return
    room.join(session, name)
    try:
        for message in session:
            text = str(message).strip()
            if text:
                room.say(session, text)
    finally:
        room.leave(session)
