"""Routes with limits, for tests under several servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import syncws

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


def status(environ: Any, start_response: Any) -> Any:
    body = json.dumps(syncws.stats()).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def take(session: syncws.Session) -> None:
    for _ in session:
        pass


PATHS: dict[str, WSGIApplication] = {
    "/three": syncws.websocket(echo, rate=syncws.Rate(3, per=1e6)),
    "/held": syncws.websocket(take, rate=syncws.Rate(5, per=1.0)),
    "/steady": syncws.websocket(echo, rate=syncws.Rate(50, per=1.0, burst=5)),
    "/few": syncws.websocket(echo, sessions_per=lambda environ: "all", max_sessions=2),
    "/status": status,
}


def application(environ: Any, start_response: Any) -> Any:
    return PATHS[environ["PATH_INFO"]](environ, start_response)
