"""One upgrade request of the gunicorn worker, and the socket that may become a session's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..upgrade.connectors import Connector, accept_through_wsgi
from ..upgrade.handshake import members
from .borrowed import Borrowed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

    from ..session.common import CommonSession
    from ..upgrade.handshake import Accept

__all__ = ["WorkerConnector", "asks_for_websocket"]


def asks_for_websocket(req: Any) -> bool:
    """Whether gunicorn's request ``req`` has the token ``websocket`` in an Upgrade header."""
    return any(name == "UPGRADE" and "websocket" in members(value) for name, value in req.headers)


class WorkerConnector(Connector):
    """An upgrade request on gunicorn's connection ``conn``."""

    #: gunicorn's response, whose figures the access log shows.
    response: Any = None

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.socket = conn.sock
        #: The threads of a program that uses the socket itself; None once a session has it.
        self.borrowed: Borrowed | None = Borrowed(conn.sock)
        #: Whether a session has had the connection, which is shut down then.
        self.was_session = False

    def take_received(self) -> bytes:
        if self.borrowed is not None:
            self.borrowed.stop_observing()
        received: bytes = self._conn.parser.unreader.take_buffered()
        return received

    def accept(self, answer: Accept, start_response: StartResponse) -> None:
        accept_through_wsgi(answer, start_response)
        if not self.response.headers_sent:
            raise RuntimeError(
                "a WSGI middleware around the application holds its response back; it has to "
                "leave WebSocket requests alone"
            )
        self.was_session = True
        self.borrowed = None

    def closed(self, session: CommonSession, sent: int) -> None:
        self.response.sent = sent
