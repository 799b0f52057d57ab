"""The chat of the examples, with a route that tells how many members this worker has."""

from __future__ import annotations

import os

from examples.chat import ROOM, app, hub

__all__ = ["app"]


@app.get("/members")
def members() -> dict[str, int]:
    """How many members are in this worker."""
    return {str(os.getpid()): len(hub.members(ROOM))}
