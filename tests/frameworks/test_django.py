"""Django's views, middleware and authentication, in the test client."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import django.test
import pytest
from django.contrib.auth.decorators import login_required
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path, re_path
from django.views.decorators.http import require_GET

import examples.django_echo  # noqa: F401  # configures Django
import syncws
from syncws import (
    Frame,
    HandshakeError,
    Opcode,
    RawSession,
    Session,
)
from syncws.django import websocket
from syncws.testing import WebSocketClient

View = Callable[[HttpRequest], HttpResponse]


class Somebody:
    """As much of a user as ``login_required`` looks at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_authenticated = bool(name)


def authenticate(get_response: View) -> View:
    """Who has logged in is in the session."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.user = Somebody(request.session.get("name", ""))  # type: ignore[assignment]  # see above
        return get_response(request)

    return middleware


def log_in(request: HttpRequest) -> HttpResponse:
    request.session["name"] = request.GET["name"]
    return HttpResponse()


@login_required
@websocket(subprotocols=["chat"])
def whoami(request: HttpRequest, session: Session) -> None:
    session.send(f"{getattr(request.user, 'name', '')} {session.subprotocol}")


@websocket
def room(request: HttpRequest, session: Session, room: str, number: int) -> None:
    session.send(f"{room!r} {number!r}")


def by_position(request: HttpRequest, session: Session, room: str) -> None:
    session.send(room)


class Greeter(syncws.Listener):
    def on_open(self, session: Session, room: str) -> None:
        session.send(room)


@syncws.stream
def greet(messages: Iterator[str], room: str) -> Iterator[str]:
    yield room


def with_request(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(request: HttpRequest, session: Session) -> None:
        handler(session, request.path)

    return wrapper


@with_request
@syncws.stream
def decorated(messages: Iterator[str], path: str) -> Iterator[str]:
    yield path


@websocket(raw=True)
def raw(request: HttpRequest, session: RawSession) -> None:
    session.send_frame(Frame(Opcode.TEXT, b"raw"))


urlpatterns = [
    path("log-in/", log_in),
    path("whoami/", whoami),
    path("rooms/<room>/<int:number>/", room),
    re_path("^groups/([a-z]+)/$", websocket(by_position)),
    path("raw/", raw),
    path("get/", require_GET(room)),
    path("in-path/", websocket(by_position), {"room": "given"}),
    path("listener/<room>/", websocket(Greeter())),
    re_path("^stream/([a-z]+)/$", websocket(greet)),
    path("decorated/", websocket(decorated)),
    path("exchange/", websocket(syncws.exchange(send=["said"], receive=print))),
]


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        LOGIN_URL="/log-in/",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "tests.frameworks.test_django.authenticate",
        ],
    ):
        yield


def client(**options: Any) -> WebSocketClient:
    return WebSocketClient(WSGIHandler(), **options)


def test_authentication_acts_first() -> None:
    with pytest.raises(HandshakeError) as caught:
        client().connect("/whoami/")
    assert caught.value.status == 302
    assert dict(caught.value.headers)["Location"] == "/log-in/?next=/whoami/"
    browser = django.test.Client()
    browser.get("/log-in/?name=Ann")
    with client(cookies=browser).connect("/whoami/", subprotocols=["chat"]) as peer:
        assert peer.receive() == "Ann chat"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/rooms/caf%C3%A9/7/", "'café' 7"),
        ("/groups/red/", "red"),
        ("/in-path/", "given"),
        ("/raw/", "raw"),
        ("/listener/red/", "red"),
        ("/stream/red/", "red"),
        ("/exchange/", "said"),
        ("/decorated/", "/decorated/"),
    ],
)
def test_parameters_of_the_url(url: str, said: str) -> None:
    with client().connect(url) as peer:
        assert peer.receive() == said


def test_an_application_that_answers_plain_requests() -> None:
    def plain(environ: Any, start_response: Any) -> list[bytes]:
        cookies = [("Set-Cookie", "a=1; Path=/x"), ("Set-Cookie", "b=2")]
        start_response("200 OK", [*cookies, ("Vary", "a"), ("Vary", "b")])
        return [b"plain"]

    view = websocket(by_position, on_non_websocket_request=plain)
    answer = view(RequestFactory().get("/"), "room")
    assert answer.content == b"plain"
    assert {name: morsel.value for name, morsel in answer.cookies.items()} == {"a": "1", "b": "2"}
    assert answer.cookies["a"]["path"] == "/x"
    assert answer["Vary"] == "a, b"


def test_plain_requests_and_bad_options() -> None:
    assert django.test.Client().get("/raw/").status_code == 501
    with pytest.raises(TypeError, match="ping_intervall"):
        websocket(ping_intervall=5)(by_position)  # type: ignore[call-overload]  # that is the test

    async def coroutine(request: HttpRequest, session: Session) -> None: ...

    with pytest.raises(TypeError, match="remove 'async'"):
        websocket(coroutine)


def test_what_a_handler_raises_is_raised_in_the_test() -> None:
    with pytest.raises(TypeError, match="missing"):
        client().connect("/get/").close()
    assert syncws.stats().open == 0
