"""A chat whose rooms remember what was said."""

import json
from typing import Any

import flask
from flask import Flask, redirect, render_template, request, send_from_directory
from werkzeug import Response

import syncws
import syncws.static
from syncws.flask import WebSockets

app = Flask(__name__)
app.secret_key = "change me"
websockets = WebSockets(app, refuse="close")
hub = syncws.Hub(history=syncws.History(messages=200, seconds=24 * 3600))
here = syncws.Hub()  # the sessions of this process alone


@app.before_request
def login_required() -> Response | None:
    if "name" not in flask.session and request.endpoint not in ("login", "script", "static"):
        return redirect("/login")
    return None


@app.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    if name := request.form.get("name", "").strip()[:30]:
        flask.session["name"] = name
        return redirect("/")
    return render_template("login.html")


@app.get("/")
def rooms() -> str | Response:
    if room := request.args.get("room", "").strip()[:30]:
        return redirect(flask.url_for("page", room=room))
    return render_template("rooms.html")


@app.get("/rooms/<room>")
def page(room: str) -> str:
    lines = [json.loads(line) for line in hub.history(room, limit=50)]
    return render_template("chat.html", room=room, lines=lines)


@app.get("/syncws.js")
def script() -> Response:
    return send_from_directory(syncws.static.FOLDER, "syncws.js")


@websockets.route("/rooms/<room>")
def chat(session: syncws.Session, room: str) -> None:
    name = flask.session["name"]
    after = request.args.get("after")
    with hub.join(room, session, after=after, member=name) as joined, here.join(room, session):
        if joined.gap or (not after and hub.history(room, limit=1)):
            session.send_json({"reload": True})
        session.send_json({"members": sorted(hub.presence(room))})
        for message in session:
            hub.send_json(room, {"name": name, "text": str(message)})


@hub.on_presence
def changed(room: str, joined: dict[str, Any], left: dict[str, Any]) -> None:
    here.send_json(room, {"members": sorted(hub.presence(room))})
