"""Drawing together: every line shows in every open page, and a new page gets the whole picture.

Run it with ``gunicorn examples.drawing:app`` and open http://127.0.0.1:8000 in two windows. With
a Redis there may be several workers::

    REDIS_URL=redis://localhost:6379/0 gunicorn -w 4 examples.drawing:app

Each message is a stroke: a colour, a width and points. The room's history is the picture.
"""

from __future__ import annotations

import os

from flask import Flask, Response, request, send_from_directory

import syncws
import syncws.static
from syncws.flask import WebSockets

app = Flask(__name__)
# A page sends at most one stroke for each frame that the screen shows.
websockets = WebSockets(app, max_message_size=4 * 1024, rate=syncws.Rate(60, burst=240))

STROKES = 5000
hub = syncws.Hub(os.environ.get("REDIS_URL"), history=syncws.History(STROKES), queue=1000)
ROOM = "drawing"


@app.get("/")
def page() -> Response:
    return app.send_static_file("drawing.html")


@app.get("/syncws.js")
def script() -> Response:
    return send_from_directory(syncws.static.FOLDER, "syncws.js")


def valid(stroke: object) -> bool:
    """Whether a page of somebody else can draw this."""
    if not isinstance(stroke, dict):
        return False
    if stroke.get("type") == "clear":
        return set(stroke) == {"type"}
    points = stroke.get("points")
    return (
        set(stroke) == {"type", "hue", "width", "points"}
        and stroke["type"] == "stroke"
        and stroke["hue"] in range(360)
        and stroke["width"] in range(1, 65)
        and isinstance(points, list)
        and len(points) >= 4
        and all(each in range(-1000, 2001) for each in points)
    )


@websockets.route("/drawing")
def drawing(session: syncws.Session) -> None:
    # A page that comes back gets what it has missed; a new one gets everything.
    after = request.args.get("after")
    with hub.join(ROOM, session, after=after) as joined:
        if joined.gap or after is None:
            # A stroke that is drawn right now may come twice, which nobody can see.
            session.send_json({"type": "reload"})
            for drawn in hub.history(ROOM, limit=STROKES):
                session.send(drawn)
        while True:
            try:
                stroke = session.receive_json()
            except ValueError:
                stroke = None
            if not valid(stroke):
                session.close(syncws.CloseCode.POLICY_VIOLATION, "this is not a stroke")
                return
            # To the sender too: all pages have the same picture, in the same order.
            hub.send_json(ROOM, stroke)
