"""The gunicorn worker class, and the only place that imports gunicorn."""

from .worker import WebSocketWorker

__all__ = ["WebSocketWorker"]
