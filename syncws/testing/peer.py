"""The peer of a session under test: a client that behaves as the test tells it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage

from ..close import CloseCode, CloseReason
from ..errors import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from .wire import Wire

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from ..base import BaseSession
    from ..client.handshake import Opened
    from .application import Application

__all__ = ["Peer"]

T = TypeVar("T")


class Peer:
    """The client's end of a connection. ``WebSocketClient.connect()`` makes it.

    A peer answers pings and the Close at once, unless the test tells it not to.
    As a context manager it closes the session with 1000 at the end of the block.
    Timeouts are real seconds, whatever a ``Clock`` says; None means the client's
    ``timeout``. Every method may be called from any thread.

    If the handler raises an exception, the first call that finds the session
    closed for that reason raises it too, or else the end of the block does.
    """

    #: The subprotocol agreed on, or None.
    subprotocol: str | None
    #: The headers of the 101, as pairs.
    headers: list[tuple[str, str]]

    def __init__(
        self,
        sock: socket.socket,
        opened: Opened,
        application: Application,
        *,
        timeout: float,
        raise_exceptions: bool,
        answer_pings: bool,
        answer_close: bool,
    ) -> None:
        self.subprotocol = opened.subprotocol
        self.headers = opened.headers
        self._application = application
        self._timeout = timeout
        self._raise_exceptions = raise_exceptions
        clock = application.clock
        self._wire = Wire(
            sock,
            opened,
            f"the peer of {application.name}",
            (lambda: None) if clock is None else clock.look_again,
            answer_pings=answer_pings,
            answer_close=answer_close,
        )
        application.peer = self

    @property
    def session(self) -> BaseSession:
        """The session under test, as its handler has it."""
        session = self._application.session
        assert session is not None, "the application has ended without a session"
        return session

    @property
    def answer_pings(self) -> bool:
        """Whether the peer answers pings. It can be set at any time."""
        return self._wire.answer_pings

    @answer_pings.setter
    def answer_pings(self, answer: bool) -> None:
        self._wire.answer_pings = answer

    @property
    def answer_close(self) -> bool:
        """Whether the peer answers the session's Close. It can be set at any time."""
        return self._wire.answer_close

    @answer_close.setter
    def answer_close(self, answer: bool) -> None:
        self._wire.answer_close = answer

    # Messages

    def send(self, message: str | bytes) -> None:
        """Send a message without waiting for the session to take it.

        Raises ``ConnectionClosed`` if the session has ended or is ending.
        """
        self._send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    def send_json(self, value: Any) -> None:
        """Send ``value`` as a text message of JSON. Raises what ``send()`` raises."""
        self.send(json.dumps(value))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next message.

        Raises ``TimeoutError`` after ``timeout`` seconds; its text says where the
        handler is. If the session has ended without another message, raises the
        handler's exception, or ``ConnectionClosed``.
        """
        return self._next(self._wire.messages, "message", timeout)

    def receive_json(self, timeout: float | None = None) -> Any:
        """Wait for the next message and parse it as JSON.

        Raises ``ValueError`` if it is not JSON, and what ``receive()`` raises.
        """
        return json.loads(self.receive(timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """Messages until the session ends. Each is awaited as by ``receive()``."""
        while True:
            try:
                message = self.receive()
            except ConnectionClosedOK:
                return
            yield message

    # Control frames and misbehaviour

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping. The payload has at most 125 bytes."""
        self._send(Ping(payload))

    def receive_ping(self, timeout: float | None = None) -> bytes:
        """Wait for the session's next ping and return its payload.

        The peer may have answered it already. Raises what ``receive()`` raises.
        """
        return self._next(self._wire.pings, "ping", timeout)

    def receive_pong(self, timeout: float | None = None) -> bytes:
        """Wait for the session's next pong and return its payload.

        Raises what ``receive()`` raises.
        """
        return self._next(self._wire.pongs, "pong", timeout)

    def send_close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Send a Close without waiting for the answer."""
        self._send(CloseConnection(code, reason))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are. They need not be a frame."""
        self._wire.send_bytes(data)

    def stall(self) -> None:
        """Stop reading: the session fills the buffers and then blocks."""
        self._wire.stall(True)

    def resume(self) -> None:
        """Read again after ``stall()``."""
        self._wire.stall(False)

    def disconnect(self) -> None:
        """Leave without a Close: the session finds the end of the stream."""
        self._wire.disconnect()

    def reset(self) -> None:
        """Break the connection, as an operating system does when a client is killed."""
        self._wire.reset(self._application.socket)

    # The end

    def close(
        self,
        code: int = CloseCode.NORMAL_CLOSURE,
        reason: str = "",
        timeout: float | None = None,
    ) -> None:
        """Close the session, unless it has ended, and wait for the handler to return.

        Raises ``RuntimeError`` if the handler still runs after ``timeout``
        seconds; its text says where the handler is, and the session is
        terminated. Raises the handler's exception if there is one.
        """
        try:
            self._finish(code, reason, timeout)
        finally:
            self.disconnect()
        self._raise_error()

    def _finish(self, code: int, reason: str, timeout: float | None) -> None:
        timeout = self._timeout if timeout is None else timeout
        application, wire = self._application, self._wire
        self.resume()
        wire.send(CloseConnection(code, reason))
        if self.answer_close:
            with wire.news:
                wire.news.wait_for(lambda: wire.reason and not wire.unsent, timeout)
        self.disconnect()
        application.join(timeout)
        if application.is_alive():
            where = application.whereabouts()
            self.session.terminate()
            raise RuntimeError(f"{timeout} s after the end of the session {where}")

    def wait_closed(self, timeout: float | None = None) -> CloseReason:
        """Wait for the end of the session. Returns how it ended, as the peer sees it.

        Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        with self._wire.news:
            self._wait(lambda: self._wire.reason is not None, "end of the session", timeout)
            assert self._wire.reason is not None
            return self._wire.reason

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:
                raise
            # The block's own exception matters more; the handler's is in the log.

    # For the application's side

    @property
    def gone(self) -> bool:
        """Whether the connection has ended, on the peer's side."""
        return self._wire.gone

    def idle(self) -> bool:
        """Whether the peer has nothing to send, and nothing to read unless it stalls."""
        return self._wire.idle()

    # Inside

    def _send(self, event: Event) -> None:
        reason = self._wire.send(event)
        if reason is not None:
            raise self._closed(reason)

    def _next(self, queue: deque[T], what: str, timeout: float | None) -> T:
        with self._wire.news:
            self._wait(lambda: queue or self._wire.reason is not None, what, timeout)
            if queue:
                return queue.popleft()
            assert self._wire.reason is not None
            reason = self._wire.reason
        raise self._closed(reason)

    def _wait(self, arrived: Callable[[], Any], what: str, timeout: float | None) -> None:
        timeout = self._timeout if timeout is None else timeout
        if not self._wire.news.wait_for(arrived, timeout):
            where = self._application.whereabouts()
            raise TimeoutError(f"there was no {what} within {timeout} s; {where}")

    def _closed(self, reason: CloseReason) -> ConnectionClosed:
        """The exception for a session that has ended. Raises the handler's instead."""
        if reason.code == CloseCode.INTERNAL_ERROR and self._raise_exceptions:
            # The Close may arrive before the application's thread keeps the exception.
            self._application.join(self._timeout)
        self._raise_error()
        return (ConnectionClosedOK if reason.ok else ConnectionClosedError)(reason, self.session)

    def _raise_error(self) -> None:
        error = self._application.error
        if error is not None and self._raise_exceptions:
            self._raise_exceptions = False
            raise error
