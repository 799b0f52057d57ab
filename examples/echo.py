"""Plain WSGI: a WebSocket that echoes at /echo, a line of text everywhere else.

Run it with ``gunicorn examples.echo:app``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import syncws

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@syncws.websocket()
def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/echo":
        return echo(environ, start_response)
    body = b"A WebSocket that echoes is at /echo.\n"
    start_response(
        "200 OK",
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
    )
    return [body]
