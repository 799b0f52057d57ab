"""The outgoing channel: messages that are sent in order, by a thread of its own.

``Session.send()`` returns when its message is written; a channel takes a
message and tells later what has become of it. It holds ``capacity`` messages:
a slow peer fills it, and then holds up those who send to *it*, and nobody else.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from ..close import CloseReason
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

#: Messages that wait in a channel, unless told otherwise. Precedent: Pedestal.
CAPACITY = 10


class Sender(Protocol):
    """What a channel needs of its session."""

    @property
    def timeout(self) -> float: ...
    @property
    def remote_address(self) -> tuple[str, int]: ...
    def send(self, data: Sendable | CloseReason, timeout: float | None = None) -> None: ...
    def close(self) -> None: ...


class Outgoing:
    """A bounded, ordered channel to the peer. Every method is for any thread."""

    def __init__(self, session: Sender, ending: Ending, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a channel holds at least 1 message, not {capacity!r}")
        self._session = session
        self._ending = ending
        self._capacity = capacity
        # Guards all of the below; not held while a message is written, nor
        # while a future is resolved.
        self._changed = threading.Condition()
        self._messages: deque[tuple[Sendable | CloseReason, Future[None]]] = deque()
        # How many of the messages accepted have been dealt with, and how many that is of.
        self._accepted = self._done = 0
        # Set once nothing more is accepted.
        self._closed: CloseReason | None = None
        self._thread: threading.Thread | None = None

    def send(self, message: Sendable | CloseReason, timeout: float | None = None) -> Future[None]:
        """Put a message, anything that ``Session.send()`` takes, into the channel.

        The future is resolved with None when the message is written, and with
        ``ConnectionClosed`` if the session ends before that; or with what
        ``Session.send()`` raises. Its callbacks run in the channel's thread.

        While the channel is full this waits, for ``timeout`` seconds at most
        (None: the session's ``timeout``); then it raises ``TimeoutError``, and
        the message is not sent. Raises ``ConnectionClosed`` once the channel is
        closed or the session is ending, and ``RuntimeError`` when the system
        has no thread left.
        """
        if not isinstance(message, (str, bytes)) and (binary := as_binary(message)) is not None:
            message = bytes(binary)  # what it is now, not what it will be
        wait = self._session.timeout if timeout is None else timeout
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
        """Send what was accepted, and close the session with 1000, within ``close_timeout``."""
        self._session.close()

    def flush(self, transport: Transport, timeout: float, *, renewed: bool) -> float:
        """Wait until every message accepted before has been sent or has failed. Returns the
        seconds that are left.

        Raises ``TimeoutError`` when ``timeout`` seconds are over; if it is ``renewed``, they begin
        anew whenever the peer reads. In the channel's own thread, where callbacks run, it does not
        wait.
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
        """Accept nothing more, and give what was accepted until ``deadline``.

        In the channel's own thread, where a callback may close the session,
        that can not be waited for: what is left fails with the session.
        """
        with self._changed:
            self._closed = self._closed or reason
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:
                left = bounded(deadline - monotonic())
                self._changed.wait_for(lambda: self._done >= self._accepted, left)

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, once the session has."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    # The thread

    def _over(self) -> ConnectionClosed | None:
        """Why nothing more is accepted; None while it is."""
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
            except BaseException as exc:  # noqa: BLE001  # who waits for the future gets it
                result = exc
            resolve(future, result)
            with self._changed:
                self._done += 1
                self._changed.notify_all()
            del message, future, result
