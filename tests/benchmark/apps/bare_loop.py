"""What a broadcast costs at least in Python: a loop of send() over the same bytes for all.

The sessions are syncws's; what is written to them goes by their sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

import syncws

from . import wsgi

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

members: dict[syncws.Session, socket.socket] = {}


@syncws.websocket
def room(session: syncws.Session) -> None:
    members[session] = session._transport._sock
    try:
        for message in session:
            frame = syncws.PreparedMessage(message).frame
            for sock in list(members.values()):
                sock.send(frame)
    finally:
        del members[session]


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/broadcast":
        return room(environ, start_response)
    return wsgi.app(environ, start_response)
