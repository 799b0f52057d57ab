"""gunicorn's settings under test: the application may look at its worker."""

from __future__ import annotations

from typing import Any

from syncws.worker import slow_heads

from . import app

threads = 2


def post_worker_init(worker: Any) -> None:
    app.WORKER = worker
    if worker.app.app_uri.endswith(":no_threads"):
        app.run_out_of_threads()
    if worker.app.app_uri.endswith(":short_heads"):
        slow_heads.HEAD_TIMEOUT = 0.5
    worker.log.info("worker is ready")
