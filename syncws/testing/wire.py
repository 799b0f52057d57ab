"""The peer's end of a connection under test: its socket, its protocol and its thread.

Nothing here belongs to a test: ``Peer`` is what a test sees.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from ..close import CloseCode, CloseReason
from ..system.wakeup import Wakeup
from .clock import is_ready

if TYPE_CHECKING:
    from ..client.handshake import Opened

__all__ = ["Wire"]

_READ_SIZE = 64 * 1024


class Wire:
    """Reads what the session sends, answers pings and the Close, and writes.

    ``looked`` is called by the thread after each look at the socket. Every
    method may be called from any thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        opened: Opened,
        name: str,
        looked: Callable[[], None],
        *,
        answer_pings: bool,
        answer_close: bool,
    ) -> None:
        self.answer_pings = answer_pings
        self.answer_close = answer_close
        #: Guards all of the below, except _wakeup. Notified of every change.
        self.news = threading.Condition()
        #: What has arrived and was not taken yet. Unbounded: the test sent it.
        self.messages: deque[str | bytes] = deque()
        self.pings: deque[bytes] = deque()
        self.pongs: deque[bytes] = deque()
        #: How the session has ended, as this side sees it. None while it is open.
        self.reason: CloseReason | None = None
        #: Bytes that the socket had no room for yet.
        self.unsent = bytearray()
        self._socket = sock
        self._looked = looked
        self._protocol = Connection(
            ConnectionType.CLIENT,
            [] if opened.deflate is None else [opened.deflate],
            opened.received,
        )
        self._parts: list[Any] = []
        self._closed_with: CloseReason | None = None
        self._stalled = False
        # Whether the connection has ended, and whether the test has ended it.
        self._ended = False
        self._ending = False
        self._wakeup = Wakeup()
        with self.news:
            self._take_all()  # what arrived together with the 101
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def send(self, event: Event) -> CloseReason | None:
        """Send an event. Returns why it cannot be sent, or None."""
        with self.news:
            if self.reason is not None:
                return self.reason
            try:
                self.unsent += self._protocol.send(event)
            except LocalProtocolError:
                return self._closed_with  # this side has sent a Close already
            if isinstance(event, CloseConnection):
                self._closed_with = CloseReason(event.code, event.reason or "", "local")
            self._write()
            return None

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        with self.news:
            self.unsent += data
            self._write()

    def stall(self, stalled: bool) -> None:
        """Stop reading, or read again."""
        with self.news:
            self._stalled = stalled
        self._wakeup.set()

    def disconnect(self) -> None:
        """End the connection without a Close: the session finds the end of the stream."""
        self._end()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
            while self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT):
                pass  # unread bytes would turn the end into a reset
        self._socket.close()

    def reset(self, theirs: socket.socket) -> None:
        """Break the connection. ``theirs`` is the session's end of it."""
        self._end()
        # Closing a Unix socket that has unread bytes resets the other end.
        with contextlib.suppress(OSError):
            theirs.send(b"\x00", socket.MSG_DONTWAIT)
        self._socket.close()

    @property
    def gone(self) -> bool:
        """Whether the connection has ended, on this side."""
        with self.news:
            return self._ending or self._ended

    def idle(self) -> bool:
        """Whether nothing waits to be sent, nor to be read unless this side stalls."""
        if self.gone:
            return True
        with self.news:
            return not self.unsent and (self._stalled or not is_ready(self._socket, select.POLLIN))

    def _end(self) -> None:
        """End the thread. The caller is alone with the socket afterwards."""
        with self.news:
            self._ending = True
        self._wakeup.set()
        self._thread.join()
        with self.news:
            self._over(CloseReason(CloseCode.ABNORMAL_CLOSURE, "disconnected", "local"))

    # The thread

    def _run(self) -> None:
        while True:
            self._wakeup.clear()
            with self.news:
                if self._ending or self._ended:
                    break
                read = 0 if self._stalled else select.POLLIN
                write = select.POLLOUT if self.unsent else 0
            poll = select.poll()
            wake = self._wakeup.fileno()
            assert wake is not None, "there is no descriptor left"
            poll.register(wake, select.POLLIN)
            if read or write:
                poll.register(self._socket, read | write)
            poll.poll()
            with self.news:
                self._write()
                if not self._stalled:
                    self._read()
            self._looked()
        self._wakeup.close()

    # With the lock

    def _write(self) -> None:
        """Send as much as the socket has room for. The thread sends the rest."""
        try:
            while self.unsent:
                del self.unsent[: self._socket.send(self.unsent, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            self._wakeup.set()
        except OSError:
            self.unsent.clear()  # the session has gone; reading will find that

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
                # The session waits for the end of the stream, as it does for the answer.
                self._socket.shutdown(socket.SHUT_RDWR)
        elif self._protocol.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._protocol.receive_data(data)
            self._take_all()
        self.news.notify_all()

    def _take_all(self) -> None:
        for event in self._protocol.events():
            self._take(event)
        self._write()

    def _take(self, event: Event) -> None:
        if isinstance(event, Message):
            self._parts.append(event.data)
            if event.message_finished:
                empty = "" if isinstance(event, TextMessage) else b""
                self.messages.append(empty.join(self._parts))
                self._parts.clear()
        elif isinstance(event, Ping):
            self.pings.append(bytes(event.payload))
            if self.answer_pings and self._protocol.state is ConnectionState.OPEN:
                self.unsent += self._protocol.send(event.response())
        elif isinstance(event, Pong):
            self.pongs.append(bytes(event.payload))
        elif isinstance(event, CloseConnection):
            state, reason = self._protocol.state, event.reason or ""
            if state is ConnectionState.REMOTE_CLOSING:
                self.reason = CloseReason(event.code, reason, "peer")
                if self.answer_close:
                    self.unsent += self._protocol.send(event.response())
            elif state is ConnectionState.CLOSED:
                self.reason = self._closed_with
            else:
                self._over(CloseReason(event.code, reason, "protocol_error"))
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _over(self, reason: CloseReason) -> None:
        """The connection cannot be used any more."""
        self.reason = self.reason or reason
        self._ended = True
        self.news.notify_all()
