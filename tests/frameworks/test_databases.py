"""A session may be open for hours; its database connection is not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections, models
from django.http import HttpRequest
from django.test import override_settings
from django.urls import path
from flask import Flask, g, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

import examples.django_echo  # noqa: F401  # configures Django
import syncws
import syncws.django
import syncws.flask
from syncws import Session
from syncws.testing import Clock, Peer, WebSocketClient

SESSIONS = 8


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


@pytest.fixture
def engine(database: Path) -> Iterator[sqlalchemy.Engine]:
    """Its pool has less connections than there are sessions, and nobody waits for one."""
    engine = sqlalchemy.create_engine(
        f"sqlite:///{database}",
        poolclass=sqlalchemy.QueuePool,
        pool_size=2,
        max_overflow=SESSIONS,
        pool_timeout=0,
    )
    yield engine
    engine.dispose()


def opened(database: Path) -> int:
    """How many connections to the database this process has open."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}") == str(database)
        except OSError:
            continue  # the descriptor of this very listing
    return found


@pytest.fixture
def talk() -> Iterator[Callable[..., list[Peer]]]:
    """Open sessions, have each work on a message, and wait until all wait for the next one."""
    peers: list[Peer] = []
    with Clock() as clock:

        def talk(client: WebSocketClient, path: str = "/ws") -> list[Peer]:
            peers.extend(client.connect(path) for _ in range(SESSIONS))
            for peer in peers:
                for number in ("1", "2"):
                    peer.send(number)
                    assert peer.receive() == number
            clock.advance(0)
            return peers

        yield talk
        for peer in peers:
            peer.close()


def select(db: Any, number: str | bytes) -> str:
    return str(db.execute(sqlalchemy.text("select :number"), {"number": number}).scalar())


# SQLAlchemy


def test_a_unit_of_work_for_each_message(
    engine: sqlalchemy.Engine, talk: Callable[..., list[Peer]]
) -> None:
    @syncws.websocket
    def handler(session: Session) -> None:
        for message in session:
            with orm.Session(engine) as db:
                session.send(select(db, message))

    talk(WebSocketClient(handler))
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # it is a QueuePool


def test_without_one_each_session_holds_a_connection(
    engine: sqlalchemy.Engine, talk: Callable[..., list[Peer]]
) -> None:
    """What this is all about; and the others of these tests can fail."""

    @syncws.websocket
    def handler(session: Session) -> None:
        with orm.Session(engine) as db:
            for message in session:
                session.send(select(db, message))

    talk(WebSocketClient(handler))
    assert engine.pool.checkedout() == SESSIONS  # type: ignore[attr-defined]  # as above


# Flask


@pytest.fixture
def app(engine: sqlalchemy.Engine) -> Flask:
    """An application as Flask's documentation has it."""
    app = Flask("tests")
    db = orm.scoped_session(orm.sessionmaker(engine))

    @app.teardown_appcontext
    def give_back(error: BaseException | None) -> None:
        db.remove()

    @app.before_request
    def load_user() -> None:
        g.user = select(db, "ann")

    websockets = syncws.flask.WebSockets(app)

    @websockets.route("/ws")
    def handler(session: Session) -> None:
        assert g.user == "ann"
        db.remove()  # what was taken before the WebSocket opened
        for message in syncws.flask.messages(session):
            assert "user" not in g
            assert request.path == "/ws"
            session.send(select(db, message))
        assert g.user == "ann"

    @app.teardown_request
    def note(error: BaseException | None) -> None:
        if "noted" in g:
            g.noted.append(error)

    @websockets.route("/early")
    def leaves_early(session: Session) -> None:
        messages = syncws.flask.messages(session)
        for message in messages:
            g.noted = app.extensions["noted"]
            g.own = True
            if message == "raise":
                raise ZeroDivisionError
            break
        session.send("left")
        assert next(messages, None) is None
        assert "own" not in g

    return app


def test_flasks_contexts_for_each_message(
    app: Flask, engine: sqlalchemy.Engine, talk: Callable[..., list[Peer]]
) -> None:
    talk(WebSocketClient(app))
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # as above


def test_flask_sqlalchemy(database: Path, talk: Callable[..., list[Peer]]) -> None:
    app = Flask("tests")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{database}"
    db = SQLAlchemy(app)

    @app.before_request
    def load_user() -> None:
        g.user = select(db.session, "ann")

    @syncws.flask.WebSockets(app).route("/ws")
    def handler(session: Session) -> None:
        db.session.close()
        for message in syncws.flask.messages(session):
            session.send(select(db.session, message))

    talk(WebSocketClient(app))
    with app.app_context():
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # as above
        db.engine.dispose()


def test_flasks_contexts_end_with_the_next_message_or_the_handler(app: Flask) -> None:
    """Also while somebody keeps what the handler has raised, and so its frame."""
    noted: list[BaseException | None] = []
    app.extensions["noted"] = noted
    with WebSocketClient(app).connect("/early") as peer:
        peer.send("break")
        assert peer.receive() == "left"
        peer.close()
    assert noted == [None]
    with (
        pytest.raises(ZeroDivisionError) as raised,
        WebSocketClient(app).connect("/early") as peer,
    ):
        peer.send("raise")
    assert noted == [None, raised.value]
    assert not has_request_context()


# Django


class Note(models.Model):
    class Meta:
        app_label = "tests"


@syncws.django.websocket
def per_message(request: HttpRequest, session: Session) -> None:
    for message in syncws.django.messages(session):
        session.send(str(Note.objects.filter(pk=int(message)).count() + int(message)))


@syncws.django.websocket
def per_session(request: HttpRequest, session: Session) -> None:
    for message in session:
        session.send(str(Note.objects.filter(pk=int(message)).count() + int(message)))
    connection.close()


urlpatterns = [path("ws", per_message), path("held", per_session)]


@pytest.fixture
def django_client(database: Path) -> Iterator[WebSocketClient]:
    databases = connections.settings["default"]
    with (
        pytest.MonkeyPatch.context() as patch,
        override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]),
    ):
        patch.setitem(databases, "NAME", str(database))
        connection.close()
        with connection.schema_editor() as editor:
            editor.create_model(Note)
        connection.close()
        yield WebSocketClient(WSGIHandler())


def test_djangos_connections_are_given_back_after_each_message(
    database: Path, django_client: WebSocketClient, talk: Callable[..., list[Peer]]
) -> None:
    talk(django_client)
    assert opened(database) == 0


def test_without_that_each_session_holds_one_of_djangos(
    database: Path, django_client: WebSocketClient, talk: Callable[..., list[Peer]]
) -> None:
    talk(django_client, "/held")
    assert opened(database) == SESSIONS
