"""The outgoing channel: a bounded queue of messages, with a thread that sends them in order.

``Session.send()`` returns when its message is written. A channel accepts a message
at once and reports the result later, in a future. It holds ``capacity`` messages: if
the peer is slow, the channel becomes full, and only the threads that send to this
peer have to wait.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ..close import CloseReason
from ..options import check_timeout
from ..system.deadline import bounded
from ..system.futures import resolve
from ..system.patience import Patience
from .streams import as_binary

if TYPE_CHECKING:
    from ..errors import ConnectionClosed
    from ..system.transport import Transport
    from .ending import Ending
    from .streams import Sendable

__all__ = ["Outgoing"]

#: The default number of messages that may wait in a channel. Precedent: Pedestal.
CAPACITY = 10


class Sender(Protocol):
    """The part of a session that a channel uses."""

    @property
    def timeout(self) -> float: ...
    @property
    def remote_address(self) -> tuple[str, int]: ...
    def send(self, data: Sendable | CloseReason, timeout: float | None = None) -> None: ...
    def close(self) -> None: ...


class Outgoing:
    """A bounded, ordered channel to the peer. Any thread may call every method."""

    def __init__(self, session: Sender, ending: Ending, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a channel holds at least 1 message, not {capacity!r}")
        self._session = session
        self._ending = ending
        self._capacity = capacity
        # Guards all fields below. It is not held while a message is written or a future is
        # resolved.
        self._changed = threading.Condition()
        self._messages: deque[tuple[Sendable | CloseReason, Future[None]]] = deque()
        # How many messages were accepted, and how many of them were sent or have failed.
        self._accepted = self._done = 0
        # None while messages are accepted.
        self._closed: CloseReason | None = None
        self._thread: threading.Thread | None = None

    def send(self, message: Sendable | CloseReason, timeout: float | None = None) -> Future[None]:
        """Put a message into the channel. It accepts the same messages as ``Session.send()``.

        The future is resolved with None when the message is written. If
        ``Session.send()`` raises an exception, the future raises the same one; if the
        session ends first, that is ``ConnectionClosed``. The callbacks of the future
        run in the channel's thread.

        If the channel is full, this waits at most ``timeout`` seconds (None: the
        session's ``timeout``). Then it raises ``TimeoutError``, and the message is not
        sent. Raises ``ConnectionClosed`` if the channel is closed or the session is
        ending, ``ValueError`` if the timeout is NaN, and ``RuntimeError`` if the system
        can not start the channel's thread.
        """
        if not isinstance(message, (str, bytes)) and (binary := as_binary(message)) is not None:
            message = bytes(binary)  # The caller may change its buffer before the message is sent.
        wait = self._session.timeout if timeout is None else check_timeout("timeout", timeout)
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            if not self._changed.wait_for(
                lambda: len(self._messages) < self._capacity or self._over() is not None,
                bounded(wait),
            ):
                raise TimeoutError(f"the channel was full for {wait:g} s; the message was not sent")
            over = self._over()
            if over is not None:
                raise over
            self._start()
            self._messages.append((message, future))
            self._accepted += 1
            self._changed.notify_all()
        return future

    def close(self) -> None:
        """Send the accepted messages and close the session with 1000, all within
        ``close_timeout`` seconds."""
        self._session.close()

    def flush(self, transport: Transport, timeout: float, *, renewed: bool) -> float:
        """Wait until every message accepted so far has been sent or has failed. Returns how many
        seconds are left.

        Raises ``TimeoutError`` after ``timeout`` seconds. If the timeout is ``renewed``, it starts
        again whenever the peer reads. In the channel's own thread, which runs the callbacks, this
        does not wait.
        """
        if threading.current_thread() is self._thread:
            return timeout
        patience = Patience(transport, timeout, renewed=renewed)
        with self._changed:
            accepted = self._accepted
            while not self._changed.wait_for(lambda: self._done >= accepted, patience.left):
                if patience.is_over():
                    raise TimeoutError(f"messages were still waiting after {timeout:g} s")
        return timeout if renewed else patience.left

    # For the session

    def finish(self, reason: CloseReason, deadline: float) -> None:
        """Accept no more messages, and wait until ``deadline`` for the accepted ones.

        A callback may close the session in the channel's own thread. That thread can
        not wait for itself: the messages that are left fail when the session ends.
        """
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:
                left = bounded(deadline - monotonic())
                self._changed.wait_for(lambda: self._done >= self._accepted, left)

    def join(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for the thread to end. Call this after the session has
        ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    # The thread

    def _over(self) -> ConnectionClosed | None:
        """The exception for a message that is no longer accepted; None while messages are
        accepted."""
        reason = self._closed or self._ending.reason
        return None if reason is None else self._ending.exception_for(reason)

    def _start(self) -> None:
        if self._thread is None:
            name = f"syncws outgoing {self._session.remote_address}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._thread = thread
            self._ending.closed.add_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self._over() is not None)
                if not self._messages:
                    return
                message, future = self._messages.popleft()
                self._changed.notify_all()
            result: BaseException | None = None
            try:
                self._session.send(message)
            except BaseException as exc:  # noqa: BLE001  # the future raises it
                result = exc
            resolve(future, result)
            with self._changed:
                self._done += 1
                self._changed.notify_all()
            del message, future, result
