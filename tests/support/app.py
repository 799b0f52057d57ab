"""The application that the tests run on real servers: a route for each kind of handler."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import resource
import threading
import time
from typing import Any

from flask import Flask, Response, abort, g, jsonify, request
from flask import session as cookie
from werkzeug.middleware.proxy_fix import ProxyFix

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
app.secret_key = "tests"
websockets = WebSockets(app)

#: gunicorn's worker, set by ``gunicorn_settings``.
WORKER: Any = None

#: How sessions ended, newest last.
ENDED: list[syncws.CloseReason] = []


@app.before_request
def guard() -> None:
    g.user = request.args.get("user", "nobody")
    if request.args.get("forbidden"):
        abort(401)


def note_end(session: syncws.Session) -> None:
    session.close_reason.add_done_callback(lambda future: ENDED.append(future.result()))


@app.get("/")
def page() -> str:
    return "plain HTTP\n"


@app.get("/status")
def status() -> Response:
    """The figures that would show a leak."""
    names = [
        t.name
        for t in threading.enumerate()
        if t.name.startswith(("syncws session", "syncws source", "syncws ping"))
    ]
    return jsonify(
        pid=os.getpid(),
        threads=len(names),
        descriptors=len(os.listdir("/proc/self/fd")),
        connections=WORKER.nr_conns if WORKER is not None else None,
        kept_alive=len(WORKER.keepalived_conns) if WORKER is not None else None,
        ended=[[reason.code, reason.reason, reason.cause] for reason in ENDED],
    )


@app.get("/stats")
def figures() -> Response:
    return jsonify(syncws.stats())


@websockets.route("/echo")
def echo(session: syncws.Session) -> None:
    note_end(session)
    for message in session:
        session.send(message)


@websockets.route("/compressed", compression="deflate")
def compressed(session: syncws.Session) -> None:
    note_end(session)
    for message in session:
        session.send(message)


@websockets.route("/limited", max_message_size=100, close_timeout=1)
def limited(session: syncws.Session) -> None:
    note_end(session)
    for message in session:
        session.send(message)


@websockets.route("/sends", timeout=1)
def sends(session: syncws.Session) -> None:
    """A handler that sends and never receives."""
    note_end(session)
    while True:
        session.send("tick")
        time.sleep(0.01)


@websockets.route("/floods", timeout=0.5)
def floods(session: syncws.Session) -> None:
    note_end(session)
    while True:
        session.send(b"x" * 1_000_000)


@websockets.route("/pings", ping_interval=0.2, timeout=0.3)
def pings(session: syncws.Session) -> None:
    note_end(session)
    for message in session:
        session.send(message)


@websockets.route("/lively", ping_interval=0.5)
@websockets.route("/silent", endpoint="silent", ping_interval=None)
def lively(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


@websockets.route("/sleeps/<float:seconds>")
def sleeps(session: syncws.Session, seconds: float) -> None:
    """A handler that does not use its session for a while."""
    session.send("sleeping")
    time.sleep(seconds)
    session.send("awake")


@websockets.route("/returns")
def returns(session: syncws.Session) -> None:
    session.send("bye")


@websockets.route("/raises")
def raises(session: syncws.Session) -> None:
    session.send("now")
    raise LookupError("as it was told")


@websockets.route("/chat", subprotocols=["v2", "v1"], headers=[("X-Fixed", "yes")])
def chat(session: syncws.Session) -> None:
    session.send(str(session.subprotocol))


@websockets.route("/raw", raw=True, close_timeout=1)
def raw(session: syncws.RawSession) -> None:
    """Sends each frame back, so it answers a Close with a Close."""
    session.close_reason.add_done_callback(lambda future: ENDED.append(future.result()))
    while True:
        session.send_frame(session.receive_frame())


@websockets.route("/rooms/<room>")
def room(session: syncws.Session, room: str) -> None:
    """A handler that uses Flask's request context."""
    session.send(
        json.dumps(
            {
                "room": room,
                "user": g.user,
                "agent": request.headers.get("User-Agent"),
                "visits": cookie.get("visits"),
                "address": session.remote_address,
                "url": request.url,
            }
        )
    )


@app.get("/visit")
def visit() -> str:
    cookie["visits"] = cookie.get("visits", 0) + 1
    return str(cookie["visits"])


@app.get("/slow/<float:seconds>")
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "slow\n"


class OwnResponse(Response):
    """A response class of the application. Many applications have one."""


#: An application with its own response class and with teardown functions that fail.
other = Flask("other")
other.response_class = OwnResponse
others = WebSockets(other)


@other.after_request
def mark(response: Response) -> Response:
    response.headers["X-Own"] = "class"
    response.call_on_close(lambda: print("closed the response"))
    return response


@others.route("/hello")
def hello(session: syncws.Session) -> None:
    session.send("hello")


@others.route("/teardown")
def teardown(session: syncws.Session) -> None:
    session.send("bye")


@others.route("/exits")
def exits(session: syncws.Session) -> None:
    session.send("bye")
    raise SystemExit


@other.teardown_request
def fail(error: BaseException | None) -> None:
    if request.path == "/teardown":
        raise LookupError("in a teardown function")


other.add_url_rule("/status", view_func=status)


def behind_a_proxy() -> Flask:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]  # as documented
    return app


def logging_its_own_way() -> Flask:
    logging.basicConfig(format="mine: %(message)s", level=logging.INFO)
    return app


def short_heads(environ: Any, start_response: Any) -> Any:
    """The application, with half a second as the limit for the head of a request."""
    return app(environ, start_response)


def no_threads(environ: Any, start_response: Any) -> Any:
    """The application, on a system that can start one thread for the pool and no others."""
    return app(environ, start_response)


def with_dict_config() -> Flask:
    """The application with ``dictConfig()``. By default that disables all existing loggers that
    the configuration does not name."""
    logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"mine": {"format": "mine: %(message)s"}},
            "handlers": {"all": {"class": "logging.StreamHandler", "formatter": "mine"}},
            "root": {"level": "INFO", "handlers": ["all"]},
            "loggers": {"gunicorn.error": {"propagate": True}},
        }
    )
    return app


def few_descriptors(environ: Any, start_response: Any) -> Any:
    """The application, in a process that may open only 16 more descriptors."""
    return app(environ, start_response)


def limit_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, hard))


def no_first_thread(environ: Any, start_response: Any) -> Any:
    """The application, on a system that can not start a thread at first."""
    return app(environ, start_response)


def fail_to_start_a_thread_once() -> None:
    def start(self: threading.Thread) -> None:
        threading.Thread.start = started  # type: ignore[method-assign]  # the next one is started
        raise RuntimeError("can't start new thread")

    started = threading.Thread.start
    threading.Thread.start = start  # type: ignore[method-assign]  # as the system would do it


def run_out_of_threads() -> None:
    def start(self: threading.Thread) -> None:
        if any(thread.name == "syncws http" for thread in threading.enumerate()):
            raise RuntimeError("can't start new thread")
        started(self)

    started = threading.Thread.start
    threading.Thread.start = start  # type: ignore[method-assign]  # as the system would do it
