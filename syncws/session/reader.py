"""Reading for the handler: ``receive()``, and messages read as streams.

The handler's thread reads the socket itself. Handing each message from thread to thread would
cost more than all the rest. While the handler is away, the ping thread reads in its place, and
puts messages into a bounded queue (``intake.py``).

``receiving`` says that a ``receive()`` is under way. It is only tried, never waited for: a second
``receive()`` raises ``ConcurrencyError``. It is the outermost of a session's locks.
"""

from __future__ import annotations

import threading
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from ..errors import ConcurrencyError
from ..protocol.events import Part
from ..system.deadline import Deadline
from ..system.transport import BrokenError, DeadlineError
from ..system.turns import MESSAGES, MESSAGES_BEFORE_READING, let_others_run
from .intake import Intake

if TYPE_CHECKING:
    from ..protocol.messages import Protocol
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending
    from .pings import Pings
    from .writer import Writer

__all__ = ["SECOND_READER", "Reader"]

#: Seconds after which a handler that works on queued messages reads what has arrived since. Half
#: of the time that it may be away from receive() (see attending.py).
LOOK_AFTER = 0.4

# Seconds. Bytes that a read returns sooner may have been there for long. This is several times
# the time that it takes to get the interpreter back from a thread that computes.
_AT_ONCE = 0.05

SECOND_READER = (
    "another thread is in receive() on this session; let one thread receive "
    "and hand the messages on, for example through a queue.Queue"
)


class Reader(Intake):
    """The receiving half of a session."""

    __slots__ = (
        "_arrived_after",
        "_read_at",
        "_stream",
        "_unwaited",
        "absence_watched",
        "messages",
        "receiving",
    )

    def __init__(
        self,
        protocol: Protocol,
        transport: Transport,
        writer: Writer,
        ending: Ending,
        pings: Pings,
        wakeup: Wakeup,
        close_timeout: float,
    ) -> None:
        super().__init__(protocol, transport, writer, ending, pings, wakeup, close_timeout)
        self.receiving = threading.Lock()
        # Messages received without waiting since this thread last yielded (see turns.py).
        self._unwaited = 0
        # The stream whose parts are being received: from the first part of a message to the last
        # one. Guarded by receiving.
        self._stream: object = None
        #: Messages that the handler has received, streams included. Guarded by receiving.
        self.messages = 0
        # When the handler last read (monotonic), and a moment before which all that it has not
        # parsed yet had not arrived.
        self._read_at = self._arrived_after = monotonic()
        #: Whether the ping thread watches how long the handler stays away. If not, receive()
        #: wakes it when it returns.
        self.absence_watched = True

    @property
    def caught_up_at(self) -> float:
        """The moment (monotonic) up to which the handler has handled everything that arrived."""
        return self._arrived_after if self._protocol.has_unparsed else self._read_at

    def receive(self, timeout: float | None) -> str | bytes:
        """The next message; see ``Session.receive()``."""
        if not self.receiving.acquire(False):
            raise ConcurrencyError(SECOND_READER)
        try:
            left = timeout if self._stream is None else self._skip_stream(timeout)
            if self._queue:
                message = self._take_queued()
            elif left is None and self.read_lock.acquire(False):
                # As in _receive(): most messages are received here.
                self._reading_thread = get_ident()
                try:
                    message = self._next_message(None)
                finally:
                    self._reading_thread = 0
                    self.read_lock.release()
            else:
                message = self._receive(left)
            assert not isinstance(message, Part)
            self.messages += 1
            return message
        except DeadlineError:
            raise TimeoutError(f"no message within {timeout:g} s") from None
        finally:
            self.receiving.release()
            if not self.absence_watched:
                self._left_unwatched()

    def begin_stream(self, stream: object, timeout: float | None) -> str | bytes | Part:
        """The next message, or its first part; ``next_part(stream)`` returns the others."""
        if not self.receiving.acquire(blocking=False):
            raise ConcurrencyError(SECOND_READER)
        try:
            left = timeout if self._stream is None else self._skip_stream(timeout)
            item = self._take_queued() if self._queue else self._receive(left, streaming=True)
            self.messages += 1
            if isinstance(item, Part) and not item.finished:
                self._stream = stream
            return item
        except DeadlineError:
            raise TimeoutError(f"no message within {timeout:g} s") from None
        finally:
            self._left()

    def next_part(self, stream: object, timeout: float | None) -> Part:
        """The next part of the message that ``stream`` began with.

        Raises ``ValueError`` once another message has been received.
        """
        if not self.receiving.acquire(blocking=False):
            raise ConcurrencyError(SECOND_READER)
        try:
            if self._stream is not stream:
                raise ValueError("the next message was received: this one can not be read on")
            return self._receive_part(timeout)
        except DeadlineError:
            raise TimeoutError(f"no more of the message within {timeout:g} s") from None
        finally:
            self._left()

    def _left(self) -> None:
        """A ``receive()`` ends."""
        self.receiving.release()
        if not self.absence_watched:
            self._left_unwatched()

    def _left_unwatched(self) -> None:
        # Once: the ping thread resets the flag when it finds the handler in receive().
        self.absence_watched = True
        self._wakeup.set()

    def _skip_stream(self, timeout: float | None) -> float | None:
        """Receive the parts of a stream that nobody has read. Returns the seconds left."""
        deadline = None if timeout is None else Deadline(timeout)
        while self._stream is not None:
            self._receive_part(timeout)
            timeout = None if deadline is None else deadline.left
        return timeout

    def _receive_part(self, timeout: float | None) -> Part:
        part = self._take_queued() if self._queue else self._receive(timeout)
        assert isinstance(part, Part)
        if part.finished:
            self._stream = None
        return part

    def _receive(self, timeout: float | None, *, streaming: bool = False) -> str | bytes | Part:
        deadline = None if timeout is None else Deadline(timeout)
        # The ping thread or a close() may be reading, and both stop in time.
        if not self.read_lock.acquire(False) and not self.read_lock.acquire(
            timeout=-1 if deadline is None else deadline.left
        ):
            if self._queue:
                return self._take_queued()
            raise DeadlineError
        self._reading_thread = get_ident()
        try:
            if streaming:
                return self._next_part(deadline)
            return self._next_message(deadline)
        finally:
            self._reading_thread = 0
            self.read_lock.release()

    def _next_part(self, deadline: Deadline | None) -> str | bytes | Part:
        """The beginning of a message that is read as a stream."""
        assert self.read_lock.locked()
        item = None
        try:
            if not self._queue:
                self._protocol.streaming = True
            item = self._next_message(deadline)
            return item
        finally:
            if item is None:
                self._protocol.streaming = False

    def _next_message(self, deadline: Deadline | None) -> str | bytes | Part:
        assert self.read_lock.locked()
        if self._queue:
            return self._take_queued()
        if self._fault is not None:
            self._fail(self._fault)
        protocol = self._protocol
        left: float | None = None
        waited = False
        while True:
            # Without unparsed bytes there is no event, except the beginning of a stream.
            event = None if protocol.exhausted and not protocol.streaming else protocol.next_event()
            if event is None:
                # As protocol.input_over, without a call: this runs for most messages.
                if self._ending.finished or protocol.close_received or protocol.failed:
                    raise self._ending.exception()
                if self._unwaited >= MESSAGES_BEFORE_READING:
                    self._yield()
                if deadline is not None:
                    if left == 0.0:
                        # One more read after the deadline is enough: a peer that sends pings
                        # without end must not keep us here.
                        raise DeadlineError
                    left = deadline.left
                began = monotonic()
                try:
                    data = self._transport.receive(left, protocol.expected_bytes)
                    if data:
                        protocol.receive_data(data)
                    else:
                        self._end_of_file()
                except DeadlineError:
                    self._read_at = monotonic()
                    raise
                except BrokenError as exc:
                    self._broken(exc)
                now = monotonic()
                # Bytes that were there at once may have arrived right after the read before.
                self._arrived_after = began if now - began > _AT_ONCE else self._read_at
                self._read_at = now
                waited = True
            elif isinstance(event, (str, bytes, Part)):
                if self._discarding:
                    continue
                if not waited:
                    self._unwaited += 1
                    if self._unwaited >= MESSAGES:
                        self._yield()
                return event
            else:
                self._take_control(event)

    def _yield(self) -> None:
        self._unwaited = 0
        let_others_run()

    def _take_queued(self) -> str | bytes | Part:
        """Take the oldest queued message. Only the thread in receive() does."""
        message = self._read_ahead.take()
        # There may be a ping behind the queued messages.
        if monotonic() - self.caught_up_at > LOOK_AFTER and self.stand_in():
            self._arrived_after = self._read_at = monotonic()
        return message
