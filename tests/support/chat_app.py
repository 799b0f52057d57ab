"""The example's chat, which tells where its members are."""

from __future__ import annotations

import os

from examples.chat import ROOM, app, hub

__all__ = ["app"]


@app.get("/members")
def members() -> dict[str, int]:
    """How many are in this worker."""
    return {str(os.getpid()): len(hub.members(ROOM))}
