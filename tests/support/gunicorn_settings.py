"""The gunicorn settings of the tests. They let the application see its worker."""

from __future__ import annotations

from typing import Any

from gunicorn.reloader import ReloaderBase

from syncws.worker import heads

from . import app

threads = 2


def post_fork(server: Any, worker: Any) -> None:
    if worker.cfg.reload:
        announce_first_look(worker.log)


def announce_first_look(log: Any) -> None:
    """Log a line when gunicorn's reloader has noted the modification time of every file.

    The reloader notices only changes after that point.
    """
    get_files = ReloaderBase.get_files
    looks = 0

    def announcing(self: ReloaderBase) -> list[str]:
        nonlocal looks
        looks += 1
        if looks == 2:
            log.info("the reloader knows every file")
        return get_files(self)

    ReloaderBase.get_files = announcing  # type: ignore[method-assign]  # gunicorn has no hook for it


def post_worker_init(worker: Any) -> None:
    app.WORKER = worker
    if worker.app.app_uri.endswith(":no_threads"):
        app.run_out_of_threads()
    if worker.app.app_uri.endswith(":no_first_thread"):
        app.fail_to_start_a_thread_once()
    if worker.app.app_uri.endswith(":few_descriptors"):
        app.limit_descriptors()
    if worker.app.app_uri.endswith(":short_heads"):
        vars(heads)["HEAD_TIMEOUT"] = 0.5  # shared, and changed here only
    worker.log.info("worker is ready")
