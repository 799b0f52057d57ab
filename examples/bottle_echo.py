"""An echo with Bottle: ``gunicorn examples.bottle_echo:app``."""

# Bottle has no types, and what pyright makes of it is wrong.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import bottle

import syncws

app = bottle.Bottle()


def echo(session: syncws.Session) -> None:
    # Bottle's own request is there in the handler.
    session.send(f"hello, {bottle.request.query.name or 'somebody'}")
    for message in session:
        session.send(message)


@app.get("/")
def page() -> str:
    return "a WebSocket is at /echo\n"


@app.get("/echo")
def view() -> bottle.HTTPResponse:
    if bottle.request.query.secret != "open":
        bottle.abort(401, "say the secret")
    response = syncws.respond(bottle.request.environ, echo)
    return bottle.HTTPResponse(response.body, response.status, response.headers)
