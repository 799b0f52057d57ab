"""Django's part of the test client: its host, its views' exceptions, its database connections.

Nothing here imports Django before the program under test has.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["default_host", "in_thread_of_view", "share_connections"]


def default_host(app: Any, client: Any) -> str | None:
    """Return the host of Django's test client, or None if neither argument is Django's."""
    test = sys.modules.get("django.test.client")
    if test is not None and isinstance(client, test.Client):
        defaults = client.defaults
        return str(defaults.get("HTTP_HOST") or defaults.get("SERVER_NAME", "testserver"))
    wsgi = sys.modules.get("django.core.handlers.wsgi")
    if wsgi is not None and isinstance(app, wsgi.WSGIHandler):
        return "testserver"
    return None


def share_connections() -> dict[str, Any]:
    """Let another thread use the database connections of this one, the test's.

    ``TestCase`` never commits: only its own connection sees the test's data. A database of
    SQLite's in memory has only one connection. ``LiveServerTestCase`` shares the latter too.
    """
    db = sys.modules.get("django.db")
    if db is None or not _is_configured():
        return {}
    shared = {}
    for connection in db.connections.all(initialized_only=True):
        in_memory = connection.vendor == "sqlite" and connection.is_in_memory_db()
        if connection.in_atomic_block or in_memory:
            connection.inc_thread_sharing()
            shared[connection.alias] = connection
    return shared


@contextlib.contextmanager
def in_thread_of_view(shared: dict[str, Any]) -> Iterator[list[BaseException]]:
    """Use the test's connections in this thread, and collect the exceptions of views.

    Django answers a view's exception with a page, and sends a signal in the same thread.
    """
    raised: list[BaseException] = []
    signals = sys.modules.get("django.core.signals")
    if signals is None or not _is_configured():
        yield raised
        return
    thread = threading.get_ident()

    def collect(**_: Any) -> None:
        error = sys.exc_info()[1]
        if threading.get_ident() == thread and error is not None:
            raised.append(error)

    if shared:
        db = sys.modules["django.db"]
        for alias, connection in shared.items():
            db.connections[alias] = connection
    signals.got_request_exception.connect(collect, weak=False)
    try:
        yield raised
    finally:
        signals.got_request_exception.disconnect(collect)
        for connection in shared.values():
            connection.dec_thread_sharing()


def _is_configured() -> bool:
    conf: Any = sys.modules.get("django.conf")
    return conf is not None and bool(conf.settings.configured)
