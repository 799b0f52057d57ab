"""A session over TCP for programs that are not tests, such as a benchmark."""

from __future__ import annotations

from typing import Any

from syncws import Session
from syncws.options import Options
from syncws.session.opening import Opening
from syncws.system.tls import make_transport

from .pairs import Peer, tcp_pair


def session_with_peer(**options: Any) -> tuple[Session, Peer]:
    """An open session, and the other end of its connection."""
    ours, theirs = tcp_pair()
    session = Session(Opening(make_transport(ours), Options(**options), {}))
    session._prepare()
    session._opened()
    return session, Peer(theirs)
