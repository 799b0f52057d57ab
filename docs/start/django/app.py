"""A chat with Django, in one file instead of a project."""

from pathlib import Path

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

import syncws
from syncws.django import websocket

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="change me", ALLOWED_HOSTS=["127.0.0.1"])
hub = syncws.Hub()


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Path("page.html").read_bytes())


@websocket
def chat(request: HttpRequest, session: syncws.Session) -> None:
    with hub.join("everybody", session):
        for message in session:
            hub.send("everybody", message)


urlpatterns = [path("", page), path("chat", chat)]
app = get_wsgi_application()
