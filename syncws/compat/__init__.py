"""The interfaces of other WebSocket libraries, on syncws's sessions.

The modules here replace simple-websocket, flask-sock and the WebSocket class of
python-engineio. ``Worker`` is the gunicorn worker class for programs that stay unchanged.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .worker import Worker

__all__ = ["Worker"]


def __getattr__(name: str) -> Any:
    # Only the worker needs gunicorn.
    if name == "Worker":
        from .worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
