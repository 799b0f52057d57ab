"""The gunicorn worker class for unchanged programs: ``gunicorn -k syncws.compat.Worker``."""

from __future__ import annotations

import sys
from typing import Any

from ..worker import WebSocketWorker
from . import simple_websocket as ours

__all__ = ["Worker", "install"]


class Worker(WebSocketWorker):
    """syncws's worker, which puts its ``Server`` in simple-websocket's place."""

    _engineio_is_ours = False

    @classmethod
    def setup(cls) -> None:
        """Called by gunicorn before it loads the application, with ``--preload`` too."""
        install()

    def handle_request(self, req: Any, conn: Any) -> Any:
        # engineio checks origins and sizes itself, so it has a class of its own. A program may
        # import engineio when it has been loaded already.
        if not self._engineio_is_ours and "engineio.async_drivers.threading" in sys.modules:
            from . import engineio

            engineio.install()
            self._engineio_is_ours = True
        return super().handle_request(req, conn)


def install() -> None:
    """Put syncws's ``Server`` in simple-websocket's place, in modules that have imported it
    already too. Does nothing if simple-websocket is not installed."""
    try:
        import simple_websocket.ws
    except ImportError:
        return
    original = simple_websocket.ws.Server
    if original is ours.Server:
        return
    for module in list(sys.modules.values()):
        names: Any = getattr(module, "__dict__", {})
        for name, value in list(names.items()):
            if value is original:
                setattr(module, name, ours.Server)
