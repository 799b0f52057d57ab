"""A control room: people log in, talk in rooms, see who is there, and watch live figures.

Run it and open http://127.0.0.1:8000 in two browsers. Any new name and password makes an account::

    gunicorn --config python:examples.dashboard examples.dashboard:app

It needs SQLAlchemy (``pip install sqlalchemy``), and keeps users and lines in ``DATABASE``
(``sqlite:///dashboard.sqlite3``). With a Redis there may be several workers::

    REDIS_URL=redis://localhost:6379/0 \\
        gunicorn -w 4 --config python:examples.dashboard examples.dashboard:app

With ``SECRET_KEY`` in the environment, logins survive a restart.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, abort, g, redirect, render_template, request, send_from_directory
from flask import session as cookie
from sqlalchemy import exc, orm
from werkzeug.security import check_password_hash, generate_password_hash

import syncws
import syncws.static
from syncws.flask import WebSockets

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
websockets = WebSockets(
    app, max_message_size=4096, rate=syncws.Rate(5, burst=20), refuse="close", timeout=10
)

ROOMS = ["general", "incidents", "deploys"]
LINES = 50  # that a page gets when it opens
FIGURES_EVERY = 1.0  # seconds

hub = syncws.Hub(os.environ.get("REDIS_URL"), history=syncws.History(500))
# The pages of this process only: each process tells its own pages its own figures.
here = syncws.Hub()

# -- The database


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    name: orm.Mapped[str] = orm.mapped_column(sa.String(32), primary_key=True)
    password: orm.Mapped[str] = orm.mapped_column(sa.String(256))


class Line(Base):
    __tablename__ = "lines"
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    room: orm.Mapped[str] = orm.mapped_column(sa.String(32), index=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    text: orm.Mapped[str]

    def as_message(self) -> dict[str, Any]:
        return {"type": "say", "number": self.number, "name": self.name, "text": self.text}


engine = sa.create_engine(os.environ.get("DATABASE", "sqlite:///dashboard.sqlite3"))


def last_lines(room: str) -> list[dict[str, Any]]:
    with orm.Session(engine) as db:
        newest = sa.select(Line).where(Line.room == room).order_by(Line.number.desc())
        return [line.as_message() for line in reversed(db.scalars(newest.limit(LINES)).all())]


def keep(room: str, name: str, text: str) -> dict[str, Any]:
    with orm.Session(engine) as db:
        line = Line(room=room, name=name, text=text)
        db.add(line)
        db.commit()
        return line.as_message()


# -- The login


def login_required(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if "name" not in cookie:
            return redirect("/login")
        g.name = cookie["name"]
        return view(*args, **kwargs)

    return guarded


@app.get("/login")
def login_page() -> str:
    return render_template("login.html", wrong=False)


@app.post("/login")
def login() -> Any:
    name, password = request.form["name"].strip(), request.form["password"]
    if not 0 < len(name) <= 32 or not password:
        abort(400)
    with orm.Session(engine) as db:
        user = db.get(User, name)
        if user is None:
            db.add(User(name=name, password=generate_password_hash(password)))
            try:
                db.commit()
            except exc.IntegrityError:  # somebody else has just taken the name
                return render_template("login.html", wrong=True), 401
        elif not check_password_hash(user.password, password):
            return render_template("login.html", wrong=True), 401
    cookie["name"] = name
    return redirect("/")


@app.post("/logout")
@login_required
def logout() -> Any:
    cookie.clear()
    # All pages of this user, in all processes.
    hub.disconnect(f"user:{g.name}", 3000, "logged out")
    return redirect("/login")


# -- The pages


@app.get("/")
@app.get("/<any(general, incidents, deploys):room>")
@login_required
def page(room: str = ROOMS[0]) -> str:
    return render_template("dashboard.html", room=room, rooms=ROOMS, name=g.name)


@app.get("/syncws.js")
def script() -> Response:
    return send_from_directory(syncws.static.FOLDER, "syncws.js")


# The guard belongs to the route: it acts before the WebSocket opens.
@websockets.route("/ws/<room>", decorators=[login_required])
def talk(session: syncws.Session, room: str) -> None:
    if room not in ROOMS:
        session.close(4404, "there is no such room")
        return
    name, after = g.name, request.args.get("after")
    with (
        hub.join(f"user:{name}", session),
        hub.join(room, session, after=after, member=name) as joined,
        here.join(room, session),
        here.join("figures", session),
    ):
        if joined.gap or after is None:
            # The page leaves out lines that it has already: the first may be among both.
            session.send_json({"type": "lines", "lines": last_lines(room)})
        session.send_json({"type": "here", "members": sorted(hub.presence(room))})
        for message in session:
            text = str(message).strip()
            if text:
                hub.send_json(room, keep(room, name, text))


@hub.on_presence
def changed(room: str, joined: dict[str, Any], left: dict[str, Any]) -> None:
    """Each process tells its own pages who is there."""
    here.send_json(room, {"type": "here", "members": sorted(hub.presence(room))})


# -- The live figures, from a thread of each worker

stopping = threading.Event()


def tell_figures() -> None:
    before = syncws.stats()
    while not stopping.wait(FIGURES_EVERY):
        now = syncws.stats()
        here.send_json(
            "figures",
            {
                "type": "figures",
                "load": round(os.getloadavg()[0], 2),
                "sessions": now["open"],
                "received": now["messages_received"] - before["messages_received"],
                "sent": now["messages_sent"] - before["messages_sent"],
            },
        )
        before = now


# -- What gunicorn reads from this file

worker_class = "syncws.worker.WebSocketWorker"
threads = 8
bind = "127.0.0.1:8000"


def on_starting(server: Any) -> None:
    """Make the tables, once, before there are workers."""
    Base.metadata.create_all(engine)
    engine.dispose()


def post_worker_init(worker: Any) -> None:
    threading.Thread(target=tell_figures, name="figures", daemon=True).start()


def worker_exit(server: Any, worker: Any) -> None:
    stopping.set()
