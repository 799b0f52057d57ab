"""The peer of a session under test: a client that behaves, or does not, as told."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from ..close import CloseCode, CloseReason
from ..errors import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from ..system.wakeup import Wakeup
from .clock import is_ready

if TYPE_CHECKING:
    from types import TracebackType

    from ..base import BaseSession
    from ..client_handshake import Opened
    from .application import Application

__all__ = ["Peer"]

T = TypeVar("T")

_READ_SIZE = 64 * 1024


class Peer:
    """The client's end of a connection, made by ``WebSocketClient.connect()``.

    Answers pings and the Close by itself, at once, unless it is told not to. As
    a context manager it closes the session at the end of the block, with 1000.
    Time-outs are in seconds, real ones, whatever a ``Clock`` says; None is the
    client's ``timeout``. Every method is for any thread.

    A handler that has raised raises its exception here as well, out of the
    first call that finds the session closed for it, or at the end of the block.
    """

    #: Whether pings are answered. Can be set at any time.
    answer_pings: bool
    #: Whether the session's Close is answered. Can be set at any time.
    answer_close: bool
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
        self.answer_pings = answer_pings
        self.answer_close = answer_close
        self.subprotocol = opened.subprotocol
        self.headers = opened.headers
        self._socket = sock
        self._application = application
        application.peer = self
        self._timeout = timeout
        self._raise_exceptions = raise_exceptions
        # Guards all of the below, but for _wakeup; notified of everything new.
        self._news = threading.Condition()
        self._protocol = Connection(
            ConnectionType.CLIENT,
            [] if opened.deflate is None else [opened.deflate],
            opened.received,
        )
        self._parts: list[Any] = []
        self._messages: deque[str | bytes] = deque()
        self._pings: deque[bytes] = deque()
        self._pongs: deque[bytes] = deque()
        self._reason: CloseReason | None = None
        self._unsent = bytearray()
        self._closed_with: CloseReason | None = None
        self._stalled = False
        #: Whether the connection has ended, and whether the test has ended it.
        self._ended = False
        self._ending = False
        self._wakeup = Wakeup()
        with self._news:
            self._take_all()  # what came right behind the 101
        self._thread = threading.Thread(
            target=self._run, name=f"the peer of {application.name}", daemon=True
        )
        self._thread.start()

    @property
    def session(self) -> BaseSession:
        """The session under test, as its handler has it."""
        session = self._application.session
        assert session is not None, "the application has ended without a session"
        return session

    # Messages

    def send(self, message: str | bytes) -> None:
        """Send a message; does not wait for the session to take it.

        Raises ``ConnectionClosed`` when the session has ended, or is ending.
        """
        self._send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    def send_json(self, value: Any) -> None:
        """As ``send()``, of ``value`` as JSON."""
        self.send(json.dumps(value))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next message.

        Raises ``TimeoutError`` after ``timeout``, saying what the handler is
        doing, and ``ConnectionClosed`` when the session has ended without
        another message; or what the handler has raised.
        """
        return self._next(self._messages, "message", timeout)

    def receive_json(self, timeout: float | None = None) -> Any:
        """As ``receive()``, for a message of JSON; raises ``ValueError`` when it is none."""
        return json.loads(self.receive(timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """Messages until the session ends, each waited for as by ``receive()``."""
        while True:
            try:
                message = self.receive()
            except ConnectionClosedOK:
                return
            yield message

    # Control frames and worse

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping."""
        self._send(Ping(payload))

    def receive_ping(self, timeout: float | None = None) -> bytes:
        """Wait for the session's next ping; gives its payload. It may have been answered."""
        return self._next(self._pings, "ping", timeout)

    def receive_pong(self, timeout: float | None = None) -> bytes:
        """Wait for the session's next pong; gives its payload."""
        return self._next(self._pongs, "pong", timeout)

    def send_close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Send a Close and wait for nothing."""
        self._send(CloseConnection(code, reason))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are, whether they are a frame or not."""
        with self._news:
            self._unsent += data
            self._write()

    def stall(self) -> None:
        """Read nothing from now on: what the session sends fills the buffers."""
        with self._news:
            self._stalled = True
        self._wakeup.set()

    def resume(self) -> None:
        """Read again."""
        with self._news:
            self._stalled = False
        self._wakeup.set()

    def disconnect(self) -> None:
        """Go away without a Close: the session finds the end of the stream."""
        self._end()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
            while self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT):
                pass  # what is left unread would make it a reset
        self._socket.close()

    def reset(self) -> None:
        """Break the connection, as a peer's system does whose process was killed."""
        self._end()
        # A Unix socket that is closed with something unread resets the other.
        with contextlib.suppress(OSError):
            self._application.socket.send(b"\x00", socket.MSG_DONTWAIT)
        self._socket.close()

    # The end

    def close(
        self,
        code: int = CloseCode.NORMAL_CLOSURE,
        reason: str = "",
        timeout: float | None = None,
    ) -> None:
        """Close the session, unless it has ended, and wait for its handler to end.

        Raises ``RuntimeError`` when the handler still runs after ``timeout``,
        saying which it is and where; the session is terminated then. Raises
        what the handler has raised.
        """
        try:
            self._finish(code, reason, timeout)
        finally:
            self.disconnect()
        self._raise_error()

    def _finish(self, code: int, reason: str, timeout: float | None) -> None:
        timeout = self._timeout if timeout is None else timeout
        application = self._application
        self.resume()
        self._try_send(CloseConnection(code, reason))
        if self.answer_close:
            with self._news:
                self._news.wait_for(lambda: self._reason and not self._unsent, timeout)
        self.disconnect()
        application.join(timeout)
        if application.is_alive():
            where = application.whereabouts()
            self.session.terminate()
            raise RuntimeError(f"{timeout} s after the end of the session {where}")

    def wait_closed(self, timeout: float | None = None) -> CloseReason:
        """Wait for the session to end; gives how, as this end sees it.

        Raises ``TimeoutError`` after ``timeout``.
        """
        with self._news:
            self._wait(lambda: self._reason is not None, "end of the session", timeout)
            assert self._reason is not None
            return self._reason

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
            # The block's own exception is the one to see; a handler's is in the log.

    # For any thread

    def _send(self, event: Event) -> None:
        reason = self._try_send(event)
        if reason is not None:
            raise self._closed(reason)

    def _try_send(self, event: Event) -> CloseReason | None:
        """Gives why it can not be sent."""
        with self._news:
            if self._reason is not None:
                return self._reason
            try:
                self._unsent += self._protocol.send(event)
            except LocalProtocolError:
                return self._closed_with  # we have sent a Close already
            if isinstance(event, CloseConnection):
                self._closed_with = CloseReason(event.code, event.reason or "", "local")
            self._write()
            return None

    def _next(self, queue: deque[T], what: str, timeout: float | None) -> T:
        with self._news:
            self._wait(lambda: queue or self._reason is not None, what, timeout)
            if queue:
                return queue.popleft()
            assert self._reason is not None
            reason = self._reason
        raise self._closed(reason)

    def _wait(self, come: Callable[[], Any], what: str, timeout: float | None) -> None:
        timeout = self._timeout if timeout is None else timeout
        if not self._news.wait_for(come, timeout):
            where = self._application.whereabouts()
            raise TimeoutError(f"there was no {what} within {timeout} s; {where}")

    def _closed(self, reason: CloseReason) -> ConnectionClosed:
        """The exception for a session that has ended; raises the handler's instead."""
        if reason.code == CloseCode.INTERNAL_ERROR and self._raise_exceptions:
            # A Close may have gone out before what was raised was known.
            self._application.join(self._timeout)
        self._raise_error()
        return (ConnectionClosedOK if reason.ok else ConnectionClosedError)(reason, self.session)

    def _raise_error(self) -> None:
        error = self._application.error
        if error is not None and self._raise_exceptions:
            self._raise_exceptions = False
            raise error

    def _end(self) -> None:
        """End the thread, and have the socket to ourselves."""
        with self._news:
            self._ending = True
        self._wakeup.set()
        self._thread.join()
        with self._news:
            self._over(CloseReason(CloseCode.ABNORMAL_CLOSURE, "disconnected", "local"))

    @property
    def gone(self) -> bool:
        """Whether the connection has ended, on this side."""
        with self._news:
            return self._ending or self._ended

    def idle(self) -> bool:
        """Whether there is nothing to read, unless it stalls, and nothing to send."""
        if self.gone:
            return True
        with self._news:
            return not self._unsent and (self._stalled or not is_ready(self._socket, select.POLLIN))

    # The thread

    def _run(self) -> None:
        while True:
            self._wakeup.clear()
            with self._news:
                if self._ending or self._ended:
                    break
                read = 0 if self._stalled else select.POLLIN
                write = select.POLLOUT if self._unsent else 0
            poll = select.poll()
            wake = self._wakeup.fileno()
            assert wake is not None, "there is no descriptor left"
            poll.register(wake, select.POLLIN)
            if read or write:
                poll.register(self._socket, read | write)
            poll.poll()
            with self._news:
                self._write()
                if not self._stalled:
                    self._read()
            if self._application.clock is not None:
                self._application.clock.look_again()
        self._wakeup.close()

    # With the lock

    def _write(self) -> None:
        """Send what there is room for; the thread sees to the rest."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            self._wakeup.set()
        except OSError:
            self._unsent.clear()  # the session has gone, which reading will show

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as exc:
            self._over(CloseReason(CloseCode.ABNORMAL_CLOSURE, str(exc), "error"))
            return
        if not data:
            self._over(CloseReason(CloseCode.ABNORMAL_CLOSURE, "", "eof"))
            if self.answer_close:
                # The session waits for this, as for the answer.
                self._socket.shutdown(socket.SHUT_RDWR)
        elif self._protocol.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._protocol.receive_data(data)
            self._take_all()
        self._news.notify_all()

    def _take_all(self) -> None:
        for event in self._protocol.events():
            self._take(event)
        self._write()

    def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._parts.append(event.data)
            if event.message_finished:
                empty = "" if isinstance(event, TextMessage) else b""
                self._messages.append(empty.join(self._parts))
                self._parts.clear()
        elif isinstance(event, Ping):
            self._pings.append(bytes(event.payload))
            if self.answer_pings and self._protocol.state is ConnectionState.OPEN:
                self._unsent += self._protocol.send(event.response())
        elif isinstance(event, Pong):
            self._pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            state, reason = self._protocol.state, event.reason or ""
            if state is ConnectionState.REMOTE_CLOSING:
                self._reason = CloseReason(event.code, reason, "peer")
                if self.answer_close:
                    self._unsent += self._protocol.send(event.response())
            elif state is ConnectionState.CLOSED:
                self._reason = self._closed_with
            else:
                self._over(CloseReason(event.code, reason, "protocol_error"))
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _over(self, reason: CloseReason) -> None:
        """The connection is of no use any more."""
        self._reason = self._reason or reason
        self._ended = True
        self._news.notify_all()
