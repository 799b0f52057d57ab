"""A background thread with several workers: every page shows the time, told once a second.

Run it with several workers, which need a Redis::

    REDIS_URL=redis://localhost:6379/0 \\
        gunicorn --config python:examples.ticker --preload -w 4 examples.ticker:app

Each worker has a thread that ticks. For each tick, the first worker that claims it in Redis
tells it to everybody; the others do nothing. No worker is special: if one ends, the others go
on. ``docs/howto/background.md`` explains the choices.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import redis
from flask import Flask

import syncws
from syncws.flask import WebSockets

app = Flask(__name__)
websockets = WebSockets(app)

REDIS_URL = os.environ.get("REDIS_URL")
EVERY = float(os.environ.get("TICK_EVERY", "1.0"))  # seconds
ROOM = "ticker"

hub = syncws.Hub(REDIS_URL)
stopping = threading.Event()


@websockets.route("/ticks")
def ticks(session: syncws.Session) -> None:
    with hub.join(ROOM, session):
        for _ in session:
            pass


def tick() -> None:
    """Tell the number of each tick, if no other worker has."""
    claims = None if REDIS_URL is None else redis.Redis.from_url(REDIS_URL, socket_timeout=EVERY)
    while not stopping.wait(EVERY - time.time() % EVERY):
        number = int(time.time() / EVERY)
        try:
            # Sets the key if it is not set yet, and returns whether it did.
            if claims is None or claims.set(f"tick {number}", 1, nx=True, ex=60 + int(EVERY)):
                hub.send(ROOM, str(number))
        except redis.RedisError:
            continue  # nobody ticks without Redis; the next tick tries again


# What gunicorn reads from this file, because it is given as --config.

worker_class = "syncws.worker.WebSocketWorker"

# Hooks of gunicorn: it calls them in each worker. A thread that is started at import is the
# master's with --preload, and does not live in the workers.


def post_worker_init(worker: Any) -> None:
    threading.Thread(target=tick, name="ticker", daemon=True).start()


def worker_exit(server: Any, worker: Any) -> None:
    stopping.set()
