"""An echo with Pyramid: ``gunicorn examples.pyramid_echo:app``."""

from __future__ import annotations

from functools import partial

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPUnauthorized
from pyramid.request import Request
from pyramid.response import Response

import syncws


def page(request: Request) -> Response:
    return Response("a WebSocket is at /echo\n")


def echo(request: Request, session: syncws.Session) -> None:
    session.send(f"hello, {request.params.get('name', 'somebody')}")
    for message in session:
        session.send(message)


def view(request: Request) -> Response:
    if request.params.get("secret") != "open":
        raise HTTPUnauthorized("say the secret")
    response = syncws.respond(request.environ, partial(echo, request))
    return Response(response.body, response.status, response.headers)


with Configurator() as config:
    config.add_route("page", "/")
    config.add_route("echo", "/echo")
    config.add_view(page, route_name="page")
    config.add_view(view, route_name="echo")
    app = config.make_wsgi_app()
