"""A chat: everybody has a name."""

import flask
from flask import Flask, redirect, render_template, request
from werkzeug import Response

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
app.secret_key = "change me"
websockets = WebSockets(app, refuse="close")
hub = syncws.Hub()


@app.before_request
def login_required() -> Response | None:
    if "name" not in flask.session and request.endpoint not in ("login", "static"):
        return redirect("/login")
    return None


@app.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    if name := request.form.get("name", "").strip()[:30]:
        flask.session["name"] = name
        return redirect("/")
    return render_template("login.html")


@app.get("/")
def page() -> str:
    return render_template("chat.html")


@websockets.route("/chat")
def chat(session: syncws.Session) -> None:
    name = flask.session["name"]
    with hub.join("everybody", session):
        for message in session:
            hub.send_json("everybody", {"name": name, "text": str(message)})
