"""An application that tells what its process, and the thread of a session, keep in memory."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import syncws
from syncws.upgrade.connectors import CONNECTION_KEY


def calls() -> Iterator[FrameType]:
    """The frames of this thread, the newest first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def of_syncws(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("syncws.")


@syncws.websocket
def session(session: syncws.Session) -> None:
    """A session that answers what there is below its handler."""
    connector = session.environ[CONNECTION_KEY]
    below = [frame.f_code.co_name for frame in calls() if of_syncws(frame)]
    session.send_json({"calls": below, "borrowed": repr(getattr(connector, "borrowed", None))})
    session.receive()


def app(environ: Any, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/session":
        return session(environ, start_response)
    body = json.dumps({"frozen": gc.get_freeze_count()}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
