"""What the soak keeps busy: an echo that soon gives up peers who stall."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import syncws

from ..support import processes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: A message upon which the handler is busy with something else for a while.
THINK = "think"

#: Seconds; see syncws.Options.
PING_INTERVAL = 2.0
TIMEOUT = 4.0


@syncws.websocket(ping_interval=PING_INTERVAL, timeout=TIMEOUT, close_timeout=TIMEOUT)
def echo(session: syncws.Session) -> None:
    for message in session:
        if message == THINK:
            time.sleep(3.0)  # long enough for a ping thread to stand in, on a busy machine too
        session.send(message)


def figures() -> dict[str, Any]:
    """What a leak would show in, with the garbage collected."""
    gc.collect()
    # A free-threaded Python has a copy of each function's bytecode for each thread, and keeps it
    # after the thread's end.
    getattr(sys, "_clear_internal_caches", lambda: None)()
    # What is free inside of malloc goes back to the system: what is left is in use.
    ctypes.CDLL(None).malloc_trim(0)
    # A session's thread stays in the pool's reserve for a moment. The pool's only other thread
    # runs this.
    objects = gc.get_objects()
    known = {threading.main_thread(), threading.current_thread()}
    others = [thread for thread in threading.enumerate() if thread not in known]
    return {
        "pid": os.getpid(),
        "blocks": sys.getallocatedblocks(),
        "memory": processes.resident_bytes(os.getpid()),
        "threads": sum(thread.name != "syncws scheduler" for thread in others),
        "descriptors": processes.descriptors(os.getpid()),
        "sessions": sum(type(thing) is syncws.Session for thing in objects),
        "objects": len(objects),
        "stats": dataclasses.asdict(syncws.stats()),
    }


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/echo":
        return echo(environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(figures()).encode()]
