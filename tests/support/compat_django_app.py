"""Django, with a view on simple-websocket."""

from __future__ import annotations

from typing import Any

import django
import simple_websocket
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    # What Django logs goes to standard error, tracebacks included.
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"all": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["all"], "level": "INFO"},
    },
)


def echo(request: Any) -> HttpResponse:
    ws = simple_websocket.Server(request.META)
    try:
        while True:
            ws.send(ws.receive())
    except simple_websocket.ConnectionClosed:
        return HttpResponse("an answer that nobody wants")


def own_answer(request: Any) -> HttpResponse:
    try:
        simple_websocket.Server(request.META)
    except simple_websocket.ConnectionError as exc:
        return HttpResponse(f"no: {exc.status_code}", status=418)
    raise AssertionError("the test sends no good handshake")


urlpatterns = [path("echo", echo), path("own-answer", own_answer)]
django.setup()
app = WSGIHandler()
