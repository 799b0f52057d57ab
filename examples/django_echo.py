"""An echo with Django, in one file: ``gunicorn examples.django_echo:app``."""

from __future__ import annotations

from collections.abc import Callable

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

import syncws
from syncws.django import messages, websocket

View = Callable[[HttpRequest], HttpResponse]

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        SECRET_KEY="an example's",
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=[
            "django.middleware.gzip.GZipMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "examples.django_echo.say_the_secret",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )
    django.setup()


def say_the_secret(get_response: View) -> View:
    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/ws/") and request.GET.get("secret") != "open":
            return HttpResponse("say the secret", status=401)
        request.session["visits"] = request.session.get("visits", 0) + 1
        return get_response(request)

    return middleware


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a WebSocket is at /ws/<room>/\n")


@websocket
def echo(request: HttpRequest, session: syncws.Session, room: str) -> None:
    session.send(f"hello, {request.GET.get('name', 'somebody')}")
    for message in messages(session):
        session.send(message)


urlpatterns = [path("", page), path("ws/<room>/", echo)]
app = WSGIHandler()
