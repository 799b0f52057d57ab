"""The end of a session. It begins once, is finished once, and is published once.

The end begins when either side sends a Close or the connection fails. It is
finished when the connection is shut down. The first reason that is given is kept.
Any thread may begin or finish the end. Publishing runs the callbacks of users, so
the thread that publishes holds no lock of the session. That thread is the pinger,
which runs until the very end; for a raw session, it is the thread that finds the
session ended.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING
from weakref import ref

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

#: The explanation for a thread that uses a session after its handler has returned.
_RETURNED_NOTE = (
    ": its handler has returned, which closes the session; let the handler wait until no other "
    "thread uses the session any more"
)

#: The reason of a session in the child of a fork, and the one of a client's session.
_FORKED = CloseReason(
    CloseCode.ABNORMAL_CLOSURE,
    "the session belongs to the parent process: a forked child can not use it, let it send "
    "through the parent or a Hub",
    "local",
)
_FORKED_CLIENT = CloseReason(
    CloseCode.ABNORMAL_CLOSURE,
    "the session belongs to the parent process: a forked child can not use it, let it open one "
    "of its own with connect()",
    "local",
)


class Ending:
    """Whether a session is ending, why, and by which deadline. Any thread may use it."""

    __slots__ = (
        "_client",
        "_close_received",
        "_close_sent",
        "_closed",
        "_lock",
        "_published",
        "_session",
        "_transport",
        "_wakeup",
        "deadline",
        "finished",
        "reason",
    )

    def __init__(
        self, session: BaseSession, transport: Transport, wakeup: Wakeup, *, client: bool = False
    ) -> None:
        # The session, for exceptions. The session refers to this object, so this becomes a weak
        # reference after the end: the session then goes with its last user, and all objects of
        # its request go with it. The garbage collector took a tenth of the time of a short
        # session to find them.
        self._session: BaseSession | ref[BaseSession] = session
        self._transport = transport
        self._wakeup = wakeup
        self._client = client
        # Guards all fields below. Held for a few instructions, never during I/O, and no other lock
        # is taken while it is held. Reentrant, because a signal handler may close a session in the
        # thread that it has interrupted here.
        self._lock = threading.RLock()
        # Whether our Close was written completely, and whether the peer's was received.
        self._close_sent = False
        self._close_received = False
        #: None until the end begins. After that, no more messages may be sent.
        self.reason: CloseReason | None = None
        #: The time of ``monotonic()`` by which the end must be finished.
        self.deadline: float | None = None
        #: Whether the connection is shut down, so that no more data can be received.
        self.finished = False
        # Made when it is first asked for. Most sessions never need it.
        self._closed: Future[CloseReason] | None = None
        self._published = False

    @property
    def closed(self) -> Future[CloseReason]:
        """The future for the reason of the end. Resolving it is the last step of the end."""
        with self._lock:
            if self._closed is None:
                self._closed = Future()
                self._closed.set_running_or_notify_cancel()  # After this, users can not cancel it.
                if self._published:
                    assert self.reason is not None
                    self._closed.set_result(self.reason)
            return self._closed

    def begin(self, reason: CloseReason, deadline: float) -> None:
        """Begin the end, unless it has already begun. It must be finished by ``deadline``.

        If a deadline is already set, the earlier one is kept.
        """
        with self._lock:
            if self.reason is None:
                self.reason = reason
            if self.deadline is None or deadline < self.deadline:
                self.deadline = deadline
        self._wakeup.set()

    def close_sent(self) -> None:
        """Called when our Close has been written completely."""
        with self._lock:
            self._close_sent = True
        self._finish_after_both()

    def close_received(self) -> None:
        """Called when the peer's Close has been received."""
        with self._lock:
            self._close_received = True
        self._finish_after_both()

    def _finish_after_both(self) -> None:
        """Shut the connection down if both Closes are through and this side is the server. The
        server closes TCP first (RFC 6455 section 7.1.1); a client waits for that until the
        deadline of the end."""
        with self._lock:
            both = self._close_sent and self._close_received
        if both and not self._client:
            self.finish(CloseReason())

    def finish(self, reason: CloseReason) -> None:
        """Shut the connection down. ``reason`` is kept only if the end had not begun yet."""
        with self._lock:
            if self.finished:
                return
            if self.reason is None:
                self.reason = reason
            self.finished = True
        self._transport.shutdown()
        self._wakeup.set()

    def publish(self) -> None:
        """Resolve the future ``closed``. Calls after the first do nothing. The caller holds no
        lock."""
        assert self.finished
        assert self.reason is not None
        with self._lock:
            if self._published:
                return
            self._published = True
            closed = self._closed
            self._session = ref(self._its_session())
        if closed is not None:
            resolve(closed, self.reason)

    def exception(self) -> ConnectionClosed:
        """The exception for the reason with which the session ended or is ending."""
        assert self.reason is not None
        if self.reason.cause == "send_timeout":
            return SendTimeoutError(self.reason, self._its_session())
        return self.exception_for(self.reason)

    def exception_for(self, reason: CloseReason) -> ConnectionClosed:
        """The exception for ``reason``. The end itself need not have begun yet."""
        kind = ConnectionClosedOK if reason.ok else ConnectionClosedError
        return kind(reason, self._its_session(), _RETURNED_NOTE if reason is RETURNED else "")

    def _its_session(self) -> BaseSession:
        session = self._session
        if not isinstance(session, ref):
            return session
        return session()  # type: ignore[return-value]  # None only where ConnectionClosed says so

    def leave_to_parent(self) -> None:
        """Called in the child of a fork: end the session here, and leave the parent's connection
        as it is.

        The child has only one thread, so no other thread uses this object.
        """
        self._lock = threading.RLock()  # A thread of the parent may have held the old lock.
        self.reason = _FORKED_CLIENT if self._client else _FORKED
        self.finished = self._published = True
        self._closed = None
