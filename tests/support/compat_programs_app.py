"""Several unchanged programs in one process, each at its own paths, and what the process knows."""

from __future__ import annotations

import json
import sys
from typing import Any

from flask import Flask
from turbo_flask import Turbo

from . import app as for_the_worker
from . import compat_app, socketio_app

pushing = Flask(__name__)
turbo = Turbo(pushing)


@pushing.get("/turbo-push")
def push() -> str:
    turbo.push(turbo.append("news", "list"))
    return str(len(turbo.clients))


def status(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [("Content-Type", "application/json")])
    registry = sys.modules.get("syncws.session.registry")
    stats = {} if registry is None else registry.stats()
    worker = for_the_worker.WORKER
    figures = {
        "clients": len(socketio_app.socketio.server.eio.sockets) + len(turbo.clients),
        "connections": worker.nr_conns,
        "open": stats.get("open"),
        "closed": stats.get("closed"),
    }
    return [json.dumps(figures).encode()]


def app(environ: Any, start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/status":
        return status(environ, start_response)
    if path.startswith("/turbo-"):
        return pushing(environ, start_response)
    if path.startswith("/plain"):
        return compat_app.plain(environ, start_response)
    if path.startswith("/socket.io/") or path == "/broadcast":
        return socketio_app.app(environ, start_response)
    return compat_app.app(environ, start_response)
