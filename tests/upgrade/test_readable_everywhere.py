"""refuse="close" on single routes, in Django, for programs on flask-sock, and under each server."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bottle
import pytest
from django.core.exceptions import PermissionDenied
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.test import override_settings
from django.urls import path

import examples.django_echo  # noqa: F401  # configures Django
import syncws
from syncws import ClientSession, ConnectionClosed, HandshakeError, connect
from syncws.django import websocket

from ..support.pairs import PATIENCE
from ..support.refusing_app import application
from ..support.servers import gunicorn
from ..support.serving import echo

APP = "tests.support.refusing_app:application"


class Page:
    """A web page's WebSockets with one server."""

    def __init__(self, port: int, certificate: Path | None = None) -> None:
        self._scheme = "ws" if certificate is None else "wss"
        self._host = f"localhost:{port}"
        self._context = None
        if certificate is not None:
            self._context = ssl.create_default_context(cafile=str(certificate))

    def open(self, path: str, **headers: str) -> ClientSession:
        headers.setdefault("Origin", f"https://{self._host}")
        url = f"{self._scheme}://{self._host}{path}"
        return connect(url, headers=headers, ssl_context=self._context, redirects=0, proxy=None)

    def ending(self, path: str, **headers: str) -> tuple[int, str]:
        with self.open(path, **headers) as session:
            with pytest.raises(ConnectionClosed) as caught:
                session.receive(PATIENCE)
            return caught.value.reason.code, caught.value.reason.reason

    def status(self, path: str, **headers: str) -> int | None:
        with pytest.raises(HandshakeError) as caught:
            self.open(path, **headers)
        return caught.value.status

    def echoes(self, session: ClientSession) -> bool:
        session.send("x")
        return session.receive(PATIENCE) == "x"


SERVERS = ["serve", "serve over TLS", "worker", "worker over TLS", "compat worker"]


@pytest.fixture(params=SERVERS, scope="module")
def page(request: pytest.FixtureRequest, certificate: tuple[Path, Path]) -> Iterator[Page]:
    key, chain = certificate
    kind, _, tls = request.param.partition(" over ")
    if kind == "serve":
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, key)
        with syncws.serve(application, "127.0.0.1", ssl_context=context) as server:
            yield Page(server.port, chain if tls else None)
        return
    arguments = [f"--keyfile={key}", f"--certfile={chain}"] if tls else []
    worker = "syncws.compat.Worker" if kind == "compat worker" else "syncws.worker.WebSocketWorker"
    with gunicorn(APP, *arguments, worker=worker) as running:
        yield Page(running.port, chain if tls else None)


def test_f9_a_page_can_read_that_there_are_too_many_sessions(page: Page) -> None:
    """@websocket alone, without the middleware."""
    with page.open("/limited") as first:
        assert page.echoes(first)
        code, reason = page.ending("/limited")
    assert code == 4429
    assert reason == "This client has 1 sessions open, as many as it may have."
    assert page.status("/limited", Origin="https://evil.example") == 403


def test_without_the_option_it_is_a_status(page: Page) -> None:
    with page.open("/unreadable") as first:
        assert page.echoes(first)
        assert page.status("/unreadable") == 429


def test_f9_one_route_of_flask_can_have_the_option(page: Page) -> None:
    assert page.ending("/flask/login") == (3000, "/login")
    assert page.status("/flask/status") == 302
    assert page.status("/flask/nothing") == 302
    with page.open("/flask/echo") as session:
        assert page.echoes(session)


def test_f9_a_refusal_keeps_its_cookies(page: Page) -> None:
    """Flask remembers in its session where the user wanted to go."""
    with page.open("/flask/login") as session:
        assert session.response_headers["Set-Cookie"].startswith("session=")
        assert session.response_headers.get("Location") is None
        with pytest.raises(ConnectionClosed):
            session.receive(PATIENCE)


def test_f9_for_a_program_on_flask_sock(page: Page, request: pytest.FixtureRequest) -> None:
    assert page.ending("/sock/forbidden") == (3003, "403 FORBIDDEN")
    assert page.ending("/sock/nothing")[0] == 4404
    assert page.ending("/sock/nothing", Origin="https://another.example")[0] == 4404
    if "compat" in request.node.name:
        with page.open("/sock/echo") as session:
            assert page.echoes(session)
        assert page.status("/sock/echo", Origin="https://evil.example") == 403


# Views of other frameworks


def test_respond_says_that_the_option_comes_too_late() -> None:
    app: Any = bottle.Bottle()
    app.catchall = False

    @app.get("/echo")  # type: ignore[untyped-decorator]  # Bottle has no types
    def view() -> Any:
        response = syncws.respond(bottle.request.environ, echo, refuse="close")
        return bottle.HTTPResponse(response.body, response.status, response.headers)

    with (
        syncws.serve(app, "127.0.0.1") as server,
        pytest.raises(HandshakeError) as caught,
    ):
        connect(f"ws://127.0.0.1:{server.port}/echo")
    assert caught.value.status == 500
    with pytest.raises(ValueError, match=r'WebSocketMiddleware\(application, refuse="close"\)'):
        syncws.respond(REQUEST, echo, refuse="close")
    wrapped = syncws.WebSocketMiddleware(app, refuse="close")
    with syncws.serve(wrapped, "127.0.0.1") as server:
        page = Page(server.port)
        with page.open("/echo") as session:
            assert page.echoes(session)
        assert page.ending("/nothing")[0] == 4404


REQUEST: Any = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "localhost",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "syncws.deferred": [],
    "syncws.readable": [],
}


# Django


def users_only(view: Any) -> Any:
    @functools.wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        return redirect(f"/login?next={request.path}")

    return guarded


@users_only
@websocket
def for_users(request: HttpRequest, session: syncws.Session) -> None:
    session.send("secret")


@users_only
@websocket(refuse="close")
def readable_for_users(request: HttpRequest, session: syncws.Session) -> None:
    session.send("secret")


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


@websocket(refuse="close")
def for_everybody(request: HttpRequest, session: syncws.Session) -> None:
    for message in session:
        session.send(message)


urlpatterns = [
    path("users", for_users),
    path("readable", readable_for_users),
    path("forbidden", forbidden),
    path("echo", for_everybody),
]

READABLE = override_settings(SYNCWS={"OPTIONS": {"refuse": "close"}})


@pytest.fixture
def django() -> Iterator[Page]:
    with (
        override_settings(ROOT_URLCONF=__name__, LOGIN_URL="/login"),
        syncws.serve(WSGIHandler(), "127.0.0.1") as server,
    ):
        yield Page(server.port)


def test_f9_the_setting_of_django(django: Page) -> None:
    assert django.status("/users") == 302
    with READABLE:
        assert django.ending("/users") == (3000, "/login?next=/users")
        assert django.ending("/forbidden")[0] == 3003
        assert django.ending("/nothing")[0] == 4404
        with django.open("/echo") as session:
            assert django.echoes(session)
        assert django.status("/users", Origin="https://evil.example") == 302


def test_f9_one_view_of_django_can_have_the_option(django: Page) -> None:
    assert django.ending("/readable") == (3000, "/login?next=/readable")
    assert django.status("/users") == 302
    assert django.status("/nothing") == 404
    with django.open("/echo") as session:
        assert django.echoes(session)
