"""The gunicorn worker class, and the only place that imports gunicorn."""

from .worker import WebSocketWorker

__all__ = ["WebSocketWorker"]

# Users read "syncws.worker.WebSocketWorker" in tracebacks and documentation.
WebSocketWorker.__module__ = __name__
