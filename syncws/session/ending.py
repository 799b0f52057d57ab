"""The end of a session: begun once, finished once, published once.

A session's end begins when either side sends a Close, or the connection
fails; it is finished when the connection is shut down. The first reason given
is the one that counts. Any thread may begin or finish an end; it is published
by one that holds no lock of the session's, since callbacks of users run then:
the pinger, which outlives everything else, or who finds a raw session ended.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..close import CloseCode, CloseReason
from ..errors import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    SendTimeoutError,
)
from ..system.futures import resolve
from .running import RETURNED

if TYPE_CHECKING:
    from ..base import BaseSession
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup

__all__ = ["Ending"]

#: What a thread reads that uses a session after its handler.
_RETURNED_NOTE = (
    ": its handler has returned, which closes the session; let the handler wait until no other "
    "thread uses the session any more"
)

#: How a session has ended in the child of a fork.
_FORKED = CloseReason(
    CloseCode.ABNORMAL_CLOSURE,
    "the session belongs to the parent process: a forked child can not use it, let it send "
    "through the parent or a Hub",
    "local",
)


class Ending:
    """Whether, why and until when a session is ending. For any thread."""

    def __init__(
        self, session: BaseSession, transport: Transport, wakeup: Wakeup, *, client: bool = False
    ) -> None:
        self._session = session
        self._transport = transport
        self._wakeup = wakeup
        self._client = client
        # Guards all below. Held for a few instructions, never over I/O, and no other lock is taken
        # under it. Reentrant, since a signal handler may close a session in the thread that it
        # has interrupted here.
        self._lock = threading.RLock()
        # Whether each side's Close has gone over the connection, whole.
        self._close_sent = False
        self._close_received = False
        #: Set from the moment the end has begun: nothing more may be sent.
        self.reason: CloseReason | None = None
        #: The moment (monotonic) by which the end has to be finished.
        self.deadline: float | None = None
        #: Whether the connection is shut down: nothing more can be received.
        self.finished = False
        # Made when somebody asks for it: most sessions are never asked.
        self._closed: Future[CloseReason] | None = None
        self._published = False

    @property
    def closed(self) -> Future[CloseReason]:
        """Resolved last of all."""
        with self._lock:
            if self._closed is None:
                self._closed = Future()
                self._closed.set_running_or_notify_cancel()  # not for users to cancel
                if self._published:
                    assert self.reason is not None
                    self._closed.set_result(self.reason)
            return self._closed

    def begin(self, reason: CloseReason, deadline: float) -> None:
        """The end begins, unless it already has; it has to be over by ``deadline``.

        A deadline earlier than the one set replaces it.
        """
        with self._lock:
            if self.reason is None:
                self.reason = reason
            if self.deadline is None or deadline < self.deadline:
                self.deadline = deadline
        self._wakeup.set()

    def close_sent(self) -> None:
        """Our Close has been written whole."""
        with self._lock:
            self._close_sent = True
        self._finish_after_both()

    def close_received(self) -> None:
        """The peer's Close has been received."""
        with self._lock:
            self._close_received = True
        self._finish_after_both()

    def _finish_after_both(self) -> None:
        """The server ends TCP first (RFC 6455 section 7.1.1). A client waits for that, up to the
        deadline of the end."""
        with self._lock:
            both = self._close_sent and self._close_received
        if both and not self._client:
            self.finish(CloseReason())

    def finish(self, reason: CloseReason) -> None:
        """Shut the connection down. ``reason`` counts if the end had not begun."""
        with self._lock:
            if self.finished:
                return
            if self.reason is None:
                self.reason = reason
            self.finished = True
        self._transport.shutdown()
        self._wakeup.set()

    def publish(self) -> None:
        """Tell the world, the first time it is called. By who holds no lock."""
        assert self.finished
        assert self.reason is not None
        with self._lock:
            if self._published:
                return
            self._published = True
            closed = self._closed
        if closed is not None:
            resolve(closed, self.reason)

    def exception(self) -> ConnectionClosed:
        """The exception that says how the session ended, or is ending."""
        assert self.reason is not None
        if self.reason.cause == "send_timeout":
            return SendTimeoutError(self.reason, self._session)
        return self.exception_for(self.reason)

    def exception_for(self, reason: CloseReason) -> ConnectionClosed:
        """The exception for an end that may not have begun yet."""
        kind = ConnectionClosedOK if reason.ok else ConnectionClosedError
        return kind(reason, self._session, _RETURNED_NOTE if reason is RETURNED else "")

    def leave_to_parent(self) -> None:
        """In the child of a fork: end here, and leave the parent's connection as it is.

        The child has only one thread, so nothing else uses this object.
        """
        self._lock = threading.RLock()  # a thread of the parent may have held it
        self.reason = _FORKED
        self.finished = self._published = True
        self._closed = None
