"""python-engineio's WebSockets, and with it those of python-socketio and Flask-SocketIO::

    import syncws.compat.engineio

The import replaces the class that engineio's ``async_mode="threading"`` uses for WebSockets.
All else stays engineio's: polling, the upgrade from it, origins, sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from engineio.async_drivers import threading as threading_mode

from ..close import CloseCode, CloseReason
from ..errors import ConnectionClosed
from ..options import Options
from ..session.session import Session
from ..system.logs import logger
from ..upgrade.application import ROUTE_KEY, open_session, refuse
from ..upgrade.handshake import Reject, negotiate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["WebSocketWSGI", "install"]

#: Bytes of a character in UTF-8, at most. engineio counts characters.
_BYTES_OF_A_CHARACTER = 4


class WebSocketWSGI:
    """The WebSocket of engineio: ``handler`` is called with this object.

    Any thread may call the methods.
    """

    def __init__(self, handler: Callable[[Any], Any], server: Any, **options: Any) -> None:
        self._handler = handler
        self._session: Session
        self._options = Options(
            origins="*",
            max_message_size=_BYTES_OF_A_CHARACTER * max(1, server.max_http_buffer_size),
            **options,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = negotiate(environ, self._options)
        if isinstance(answer, Reject):
            return tuple(refuse(answer, environ, start_response))
        environ.setdefault(ROUTE_KEY, "engineio")
        # engineio would answer with a response of its own if it got a list.
        return tuple(open_session(answer, self._run, self._options, environ, start_response))

    def _run(self, session: Session) -> None:
        self._session = session
        try:
            self._handler(self)
        except Exception as exc:  # noqa: BLE001  # engineio has no list of what it raises
            # engineio catches what the program's functions raise. The rest is what the peer
            # has sent, or not sent.
            logger.info("engineio gives %s up: %r", session, exc)
            session._end(CloseReason(CloseCode.POLICY_VIOLATION, "", "local"))
            self._abandon()

    def _abandon(self) -> None:
        """Tell engineio's socket that its WebSocket has ended."""
        socket = getattr(self._handler, "__self__", None)
        if socket is None:
            return
        socket.upgrading = False
        if socket.upgraded:
            socket.queue.put(None)  # the thread that sends ends
            socket.close(wait=False, abort=True, reason=socket.server.reason.TRANSPORT_ERROR)

    def close(self) -> None:
        """Send a Close, and do not wait."""
        if self._session._reason is None:
            self._session._start_closing(CloseReason(CloseCode.NORMAL_CLOSURE, "", "local"))

    def send(self, message: str | bytes) -> None:
        """Send a message. Raises ``OSError`` after the end."""
        try:
            self._session.send(message)
        except ConnectionClosed as exc:
            raise OSError(str(exc)) from exc

    def wait(self) -> str | bytes | None:
        """Return the next message, or None after the end."""
        try:
            return self._session.receive()
        except ConnectionClosed:
            return None


def install() -> None:
    """Put :class:`WebSocketWSGI` in the place of engineio's class."""
    threading_mode._async["websocket"] = threading_mode.SimpleWebSocketWSGI = WebSocketWSGI


install()
