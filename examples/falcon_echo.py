"""An echo with Falcon: ``gunicorn examples.falcon_echo:app``."""

from __future__ import annotations

from functools import partial

import falcon

import syncws


class Page:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = "a WebSocket is at /echo\n"


class Echo:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if request.get_param("secret") != "open":
            raise falcon.HTTPUnauthorized(description="say the secret")
        answer = syncws.respond(request.env, partial(self.echo, request))
        response.status, response.data = answer.status, answer.body
        response.set_headers(answer.headers)

    def echo(self, request: falcon.Request, session: syncws.Session) -> None:
        session.send(f"hello, {request.get_param('name') or 'somebody'}")
        for message in session:
            session.send(message)


app = falcon.App()
app.add_route("/", Page())
app.add_route("/echo", Echo())
