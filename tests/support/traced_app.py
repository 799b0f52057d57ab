"""Applications with OpenTelemetry or Sentry, each in a process of its own, since both change the
frameworks that they watch.

``python -m tests.support.traced_app KIND`` opens a session, and prints as JSON what was reported
while it was open, and what was reported in all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import requests

import syncws

TIMEOUT = 10.0


def echo(session: syncws.Session) -> None:
    for message in session:
        if message == "fail":
            raise LookupError("the handler fails")
        session.send(message)


def flask_app() -> Any:
    import flask

    from syncws.flask import WebSockets

    app = flask.Flask(__name__)
    app.get("/page")(lambda: "page")
    WebSockets(app).route("/ws/echo")(echo)
    return app


def django_app(*middleware: str) -> Any:
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    from syncws.django import websocket

    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=list(middleware), USE_TZ=True
    )
    django.setup()
    view = websocket(lambda request, session: echo(session))
    globals()["urlpatterns"] = [
        path("ws/echo", view),
        path("page", lambda request: HttpResponse("page")),
    ]
    return WSGIHandler()


def bottle_app() -> Any:
    import bottle

    app: Any = bottle.Bottle()

    def view() -> Any:
        response = syncws.respond(bottle.request.environ, echo)
        return bottle.HTTPResponse(response.body, response.status, response.headers)

    app.get("/ws/echo")(view)
    app.get("/page")(lambda: "page")
    return app


Reported = Callable[[], list[Any]]


def with_opentelemetry(kind: str) -> tuple[Any, Reported]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app: Any
    if kind == "flask":
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        app = flask_app()
        instrumentor: Any = FlaskInstrumentor()
        instrumentor.instrument_app(app, tracer_provider=provider, excluded_urls="/ws/")
    elif kind == "django":
        from opentelemetry.instrumentation.django import DjangoInstrumentor

        app = django_app()
        DjangoInstrumentor().instrument(tracer_provider=provider)
        app.load_middleware()
    else:
        from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

        app = OpenTelemetryMiddleware(bottle_app(), tracer_provider=provider)

    def reported() -> list[Any]:
        spans = exporter.get_finished_spans()
        return [["span", dict(span.attributes or {}).get("http.status_code")] for span in spans]

    return app, reported


def with_sentry(kind: str) -> tuple[Any, Reported]:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Kept(Transport):
        def __init__(self) -> None:
            super().__init__()
            self.items: list[Any] = []

        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                content = item.payload.json or {}
                values = content.get("exception", {}).get("values", [])
                self.items.append([item.type, *(value["type"] for value in values)])

    def sampler(context: Any) -> float:
        environ = context.get("wsgi_environ") or {}
        return 0.0 if "HTTP_SEC_WEBSOCKET_KEY" in environ else 1.0

    kept = Kept()
    sentry_sdk.init("http://key@127.0.0.1:1/1", transport=kept, traces_sampler=sampler)
    return flask_app() if kind == "flask" else django_app(), lambda: list(kept.items)


def main() -> None:
    tool, kind = sys.argv[1:]
    app, reported = (with_opentelemetry if tool == "opentelemetry" else with_sentry)(kind)
    with syncws.serve(app, "127.0.0.1") as server:
        requests.get(f"http://127.0.0.1:{server.port}/page", timeout=TIMEOUT)
        url = f"ws://127.0.0.1:{server.port}/ws/echo"
        for last in ["bye", "fail"]:
            with syncws.connect(url, proxy=None) as session:
                session.send("hello")
                assert session.receive(TIMEOUT) == "hello"
                if last == "bye":
                    while_open = reported()
                    continue
                session.send(last)
                session.wait_closed(TIMEOUT)
    print(json.dumps({"while_open": while_open, "in_all": reported()}))


if __name__ == "__main__":
    main()
