"""The page, the WebSocket, and a view that tells every open page something."""

from __future__ import annotations

import json

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from syncws import Session
from syncws.django import hub, messages, websocket

from .models import Line

ROOM = "lobby"


@login_required
def page(request: HttpRequest) -> HttpResponse:
    """The page, with the lines of the past."""
    lines = Line.objects.filter(room=ROOM).select_related("author")
    return render(request, "django_chat/chat.html", {"room": ROOM, "lines": lines})


@login_required  # above @websocket: who has not logged in gets a redirect and no WebSocket
@websocket
def chat(request: HttpRequest, session: Session, room: str) -> None:
    """Tell everybody in the room what this user says."""
    name = request.user.get_username()
    with hub().join(room, session):
        # messages() gives the database connection back before it waits for the next one.
        for message in messages(session):
            text = str(message).strip()
            if text:
                Line.objects.create(author_id=request.user.pk, room=room, text=text)
                hub().send(room, json.dumps({"name": name, "text": text}))


@require_POST
@permission_required("django_chat.delete_line", raise_exception=True)
def clear(request: HttpRequest) -> HttpResponse:
    """Remove all lines, from the open pages too."""
    Line.objects.filter(room=ROOM).delete()
    hub().send(ROOM, json.dumps({"clear": True}))
    return redirect("/")
