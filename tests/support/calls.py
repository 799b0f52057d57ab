"""A WSGI call of an upgrade, without a server."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from syncws.base import BaseSession
from syncws.upgrade.connectors import CONNECTION_KEY, Connector, accept_through_wsgi
from syncws.upgrade.handshake import Accept

from .handshakes import request
from .pairs import Peer, tcp_pair


class LoopbackConnector(Connector):
    def __init__(self, sock: Any) -> None:
        self.socket = sock
        self.calls: list[str] = []

    def take_received(self) -> bytes:
        self.calls.append("take_received")
        return b""

    def accept(self, answer: Accept, start_response: Any) -> None:
        self.calls.append("accept")
        accept_through_wsgi(answer, start_response)

    def opened(self, session: BaseSession) -> None:
        self.calls.append("opened")

    def closed(self, session: BaseSession, sent: int) -> None:
        self.calls.append(f"closed after {sent} bytes")


class Call:
    """A WSGI call of an upgrade, in a thread of its own."""

    def __init__(self) -> None:
        self.ours, theirs = tcp_pair()
        self.peer = Peer(theirs)
        self.connector = LoopbackConnector(self.ours)
        self.environ = {**request(), CONNECTION_KEY: self.connector}
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.pool = ThreadPoolExecutor(1)

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return lambda data: None

    def run(self, application: Any) -> Future[Any]:
        return self.pool.submit(application, self.environ, self.start_response)
