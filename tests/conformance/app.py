"""What the fuzzing client talks to: an echo, with and without compression."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import syncws

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The largest message of the suite has 16 MiB.
LARGEST = 64 * 1024 * 1024


def echo(session: syncws.Session) -> None:
    for message in session:
        session.send(message)


plain = syncws.WebSocketUpgrade(echo, max_message_size=LARGEST)
compressing = syncws.WebSocketUpgrade(echo, max_message_size=LARGEST, compression="deflate")


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    route = compressing if environ["PATH_INFO"] == "/compressing" else plain
    return route(environ, start_response)
