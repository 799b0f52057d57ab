"""syncws as plain WSGI: an echo at /echo, another that computes at /compute, a room at /broadcast,
a page of HTTP everywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import syncws

from . import MAX_MESSAGE_SIZE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


hub = syncws.Hub()


@syncws.websocket(max_message_size=MAX_MESSAGE_SIZE, compression="deflate")
def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


@syncws.websocket
def compute(session: syncws.Session) -> None:
    for message in session:
        total = 0
        for number in range(2000):
            total += number * number
        assert total == 2_664_667_000
        session.send(message)


@syncws.websocket
def room(session: syncws.Session) -> None:
    with hub.join("room", session):
        for message in session:
            hub.send("room", message)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/echo":
        return echo(environ, start_response)
    if environ["PATH_INFO"] == "/compute":
        return compute(environ, start_response)
    if environ["PATH_INFO"] == "/broadcast":
        return room(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
