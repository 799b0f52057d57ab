"""Reading: one thread at a time reads the socket and feeds the protocol.

Two locks:

* ``receiving`` says that a ``receive()`` is under way. It is never waited for:
  a second ``receive()`` raises ``ConcurrencyError``.
* ``read_lock`` is for whoever reads the socket and feeds the protocol: the
  ``receive()`` under way; the ping thread, taking a turn that never waits for
  the peer while the handler is elsewhere; a ``close()`` waiting for the peer's
  Close, until its deadline. ``receive()`` takes it after ``receiving``, and the
  writer never waits for either, so the reader may write control frames.

The handler's thread reads the socket itself: handing each message from thread
to thread would cost more than all the rest. Only while it is away does the
ping thread read in its place, and put messages into a bounded queue.
"""

from __future__ import annotations

import errno
import os
import threading
from threading import get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING

from ..close import CloseCode, CloseReason
from ..errors import ConcurrencyError
from ..protocol.events import Fault, Part, PeerClose, Ping, Pong
from ..system.deadline import bounded
from ..system.transport import BrokenError, DeadlineError
from .read_ahead import ReadAhead

if TYPE_CHECKING:
    from ..protocol.events import Event
    from ..protocol.messages import Protocol
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending
    from .pings import Pings
    from .writer import Writer

__all__ = ["SECOND_READER", "Reader"]

#: Seconds after which a handler that works on what was read ahead looks at what
#: has arrived since. Half of what it may be out of receive(), see pinger.py.
LOOK_AFTER = 0.4

# Seconds: what is read within them may have been there for long. Several times
# what it takes to get the interpreter back from a thread that computes.
_AT_ONCE = 0.05

#: Messages that a session may receive without waiting before it lets other
#: threads run. Without, one of them ran for a switch interval of 5 ms at a
#: time: with 100 busy sessions the slowest hundredth of the answers took 0.4 s,
#: with this 20 ms, and the throughput was the same.
YIELD_AFTER = 32

SECOND_READER = (
    "another thread is in receive() on this session; let one thread receive "
    "and hand the messages on, for example through a queue.Queue"
)

# Releases the interpreter's lock, and lets others take it before it comes back.
_give_way = getattr(os, "sched_yield", lambda: sleep(0))


class Reader:
    """The receiving half of a session."""

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
        self._protocol = protocol
        self._transport = transport
        self._writer = writer
        self._ending = ending
        self._pings = pings
        self._wakeup = wakeup
        self._close_timeout = close_timeout
        # Messages received without waiting for them, since others could run.
        self._unwaited = 0
        self.receiving = threading.Lock()
        self.read_lock = threading.Lock()
        # The thread that is in receive(), by its ident. A signal handler may run in that thread
        # and close the session there. Written under receiving.
        self._receiver: int | None = None
        # Put in under read_lock, taken out under receiving.
        self._queue = ReadAhead()
        # Whose parts are being received: from the first of a message to the
        # last of it. Under receiving.
        self._stream: object = None
        # Whether a message was thrown away, and so all that come after it are:
        # nobody gets the end of a message without its middle. Under read_lock.
        self._discarding = False
        # A fault behind what was read ahead. Under read_lock.
        self._fault: Fault | None = None
        #: Until when a fault waits for the handler to receive what came before.
        self.fault_deadline: float | None = None
        #: Messages that the handler has received, streams included. Under receiving.
        self.messages = 0
        # When the handler has read last (monotonic), and the time at which
        # nothing of that had arrived yet.
        self._read_at = self._arrived_after = monotonic()
        #: Whether the ping thread watches for how long the handler stays away.
        #: If not, it is told when the handler leaves receive().
        self.watched = True

    # For the handler

    def receive(self, timeout: float | None) -> str | bytes:
        """The next message; see ``Session.receive()``."""
        if not self.receiving.acquire(blocking=False):
            raise ConcurrencyError(SECOND_READER)
        try:
            if self._stream is not None:
                timeout = self._skip_stream(timeout)
            message = self._take_queued() if self._queue else self._receive(timeout)
            assert not isinstance(message, Part)
            self.messages += 1
            return message
        finally:
            self._left()

    def begin_stream(self, stream: object, timeout: float | None) -> str | bytes | Part:
        """The next message, or the first part of it: ``next_part(stream)`` gives the others."""
        if not self.receiving.acquire(blocking=False):
            raise ConcurrencyError(SECOND_READER)
        try:
            if self._stream is not None:
                timeout = self._skip_stream(timeout)
            item = self._take_queued() if self._queue else self._receive(timeout, streaming=True)
            self.messages += 1
            if isinstance(item, Part) and not item.finished:
                self._stream = stream
            return item
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
        finally:
            self._left()

    def _left(self) -> None:
        """At the end of a ``receive()``."""
        self.receiving.release()
        if not self.watched:
            # Once; the flag is reset when the handler is found waiting in
            # receive().
            self.watched = True
            self._wakeup.set()

    def _skip_stream(self, timeout: float | None) -> float | None:
        """Receive what nobody has read of a stream; gives the seconds that are left."""
        deadline = None if timeout is None else monotonic() + timeout
        while self._stream is not None:
            self._receive_part(timeout)
            timeout = None if deadline is None else max(0.0, deadline - monotonic())
        return timeout

    def _receive_part(self, timeout: float | None) -> Part:
        part = self._take_queued() if self._queue else self._receive(timeout)
        assert isinstance(part, Part)
        if part.finished:
            self._stream = None
        return part

    def _receive(self, timeout: float | None, *, streaming: bool = False) -> str | bytes | Part:
        deadline = None if timeout is None else monotonic() + timeout
        if not self.read_lock.acquire(blocking=False):
            # The ping thread or a close() has its turn, which has an end.
            wait = -1 if timeout is None else bounded(timeout)
            if not self.read_lock.acquire(timeout=wait):
                if self._queue:
                    return self._take_queued()
                raise TimeoutError(f"no message within {timeout} s")
        item = None
        self._receiver = get_ident()
        try:
            if streaming and not self._queue:
                self._protocol.streaming = True
            item = self._next_message(deadline)
            return item
        except DeadlineError:
            raise TimeoutError(f"no message within {timeout} s") from None
        finally:
            if streaming and item is None:
                self._protocol.streaming = False
            self._receiver = None
            self.read_lock.release()

    def _next_message(self, deadline: float | None) -> str | bytes | Part:
        assert self.read_lock.locked()
        if self._queue:
            return self._take_queued()
        if self._fault is not None:
            self._fail(self._fault)
        protocol = self._protocol
        left = None
        waited = False
        while True:
            event = protocol.next_event()
            if event is None:
                if self._ending.finished or protocol.input_over:
                    raise self._ending.exception()
                if deadline is not None:
                    if left == 0.0:
                        # One look after the deadline is enough: a peer that
                        # sends no end of pings shall not keep us here.
                        raise DeadlineError
                    left = max(0.0, deadline - monotonic())
                began = monotonic()
                try:
                    self._read(left)
                except DeadlineError:
                    self._read_at = monotonic()
                    raise
                now = monotonic()
                # What did not have to be waited for may have come right after
                # the read before this one.
                self._arrived_after = began if now - began > _AT_ONCE else self._read_at
                self._read_at = now
                waited = True
            elif isinstance(event, (str, bytes, Part)):
                if self._discarding:
                    continue
                if not waited:
                    self._let_others_run()
                return event
            else:
                self._take_control(event)

    def _let_others_run(self) -> None:
        """A message was there already: a peer that sends faster than it is
        answered shall not keep the interpreter from the other sessions."""
        self._unwaited += 1
        if self._unwaited >= YIELD_AFTER:
            self._unwaited = 0
            _give_way()

    def _take_queued(self) -> str | bytes | Part:
        """By the thread in receive(), which alone takes from the queue."""
        message = self._queue.take()
        # There may be a ping behind all that is queued.
        if monotonic() - self.looked_at > LOOK_AFTER and self.stand_in():
            self._arrived_after = self._read_at = monotonic()
        return message

    # For the ping thread

    @property
    def busy(self) -> bool:
        """Whether somebody is reading."""
        return self.read_lock.locked()

    @property
    def waiting(self) -> bool:
        """Whether messages were read ahead that the handler has not received."""
        return bool(self._queue)

    @property
    def looked_at(self) -> float:
        """Until when (monotonic) the handler has looked at all that has arrived."""
        return self._arrived_after if self._protocol.has_unparsed else self._read_at

    @property
    def unread(self) -> bool:
        """Whether something was read that nobody has come to yet."""
        return self._protocol.has_unparsed

    @property
    def held_back(self) -> bool:
        """Whether reading ahead has stopped: the queue is full, or a fault ends it."""
        return self._fault is not None or self._queue.is_full(self._protocol.kept_size)

    @property
    def handler_is_behind(self) -> bool:
        """Whether messages wait for the handler, so many that reading has stopped.

        The part of an unfinished message that has arrived does not count: a peer could switch
        keepalive off with it.
        """
        return self._fault is not None or self._queue.is_full(0)

    def stand_in(self) -> bool:
        """One turn in the handler's place: read what has arrived, never wait for more.

        False when somebody else is reading.
        """
        if not self.read_lock.acquire(blocking=False):
            return False
        try:
            # Once its input means nothing any more the peer is still read, and
            # its bytes thrown away, up to its end of file.
            if self._take_in() and not self._ending.finished:
                self._read_now()
                self._take_in()
            return True
        finally:
            self.read_lock.release()

    def _take_in(self) -> bool:
        """Parse what was received; whether to read more."""
        if self._ending.reason is not None:
            self._make_room()
            return True
        return self._parse_ahead() or self._protocol.input_over

    def _parse_ahead(self, *, bounded: bool = True) -> bool:
        """Queue the messages received so far; False when that has to stop."""
        assert self.read_lock.locked()
        while not (bounded and self.held_back) and self._fault is None:
            event = self._protocol.next_event()
            if event is None:
                return True
            if isinstance(event, (str, bytes, Part)):
                if not self._discarding:
                    self._queue.put(event)
            elif isinstance(event, Fault) and self._queue and self._ending.reason is None:
                # In order: the handler first gets, and may answer, what came
                # before. It has as long as a closing handshake may take.
                self._fault = event
                self.fault_deadline = monotonic() + self._close_timeout
            else:
                self._take_control(event)
        return False

    def fail_now(self) -> None:
        """The handler has not come for the messages before a fault in time."""
        if self.read_lock.acquire(blocking=False):
            try:
                if self._fault is not None:
                    self._fail(self._fault)
            finally:
                self.read_lock.release()

    # For close()

    @property
    def interrupted(self) -> bool:
        """Whether this thread is in ``receive()``: it runs a signal handler now."""
        return self._receiver == get_ident()

    def _acquire_to_end(self, timeout: float) -> bool:
        """Acquire ``read_lock``; not in a signal handler, which would wait for its own thread."""
        return not self.interrupted and self.read_lock.acquire(timeout=bounded(timeout))

    def read_to_the_end(self, deadline: float) -> None:
        """Read until the closing handshake is over, or until ``deadline``.

        Messages that still arrive are kept for a later ``receive()`` as far as
        the queue has room, and thrown away beyond: this side has closed.
        """
        if not self._acquire_to_end(deadline - monotonic()):
            return
        try:
            if self._fault is not None:
                self._fail(self._fault)
            while not self._ending.finished:
                self._make_room()
                left = deadline - monotonic()
                if left <= 0:
                    return
                if not self._ending.finished:
                    self._read(left)
        except DeadlineError:
            return
        finally:
            self.read_lock.release()

    def _make_room(self) -> None:
        """This side is closing: what the queue does not take is thrown away, so
        that the peer's Close is reached."""
        while not self._parse_ahead():
            event = self._protocol.next_event()
            if event is None:
                return
            if isinstance(event, (str, bytes, Part)):
                self._discarding = True
            else:
                self._take_control(event)

    def read_the_rest(self) -> None:
        """Writing failed: take in what the peer sent before it went, a Close maybe.

        That is what lies in the system's buffer: its size bounds the queue,
        this once. Waits for nothing but another reader's turn.
        """
        if not self._acquire_to_end(self._close_timeout):
            return
        try:
            # Until nothing has arrived any more, or means nothing.
            while self._parse_ahead(bounded=False) and not (
                self._ending.finished or self._protocol.input_over or not self._read_now()
            ):
                pass
        finally:
            self.read_lock.release()

    # Common to all

    def _read(self, timeout: float | None) -> None:
        try:
            data = self._transport.receive(timeout, self._protocol.expected_bytes)
        except BrokenError as exc:
            self._broken(exc)
        else:
            self._feed(data)

    def _read_now(self) -> bool:
        """Read what has arrived; False when that was nothing."""
        assert self.read_lock.locked()
        try:
            data = self._transport.receive_now(self._protocol.expected_bytes)
        except BrokenError as exc:
            self._broken(exc)
            return False
        if data is None:
            return False
        self._feed(data)
        return True

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        elif self._writer.broken is not None and self._writer.broken.errno == errno.ECONNRESET:
            # The system tells of a reset once, and the writer has heard it.
            self._broken(self._writer.broken)
        else:
            self._finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "end of file without a Close", "eof")
            )

    def _broken(self, error: BrokenError) -> None:
        self._finish(CloseReason(CloseCode.ABNORMAL_CLOSURE, str(error), "error"))

    def _finish(self, reason: CloseReason) -> None:
        """Nothing more will come, for this ``reason`` unless there was one before."""
        if self._fault is not None:
            self._fail(self._fault)
        self._ending.finish(reason)

    def _take_control(self, event: Event) -> None:
        """What is no message."""
        assert self.read_lock.locked()
        if isinstance(event, Ping):
            self._writer.pong(event.payload)
        elif isinstance(event, Pong):
            if self._pings.answered(event.payload):
                self._wakeup.set()
        elif isinstance(event, PeerClose):
            self._ending.begin(
                CloseReason(event.code, event.reason, "peer"), monotonic() + self._close_timeout
            )
            # RFC 6455 section 5.5.1: the answer usually echoes the code.
            self._writer.close()
            self._writer.settle()
        elif isinstance(event, Fault):
            self._fail(event)

    def _fail(self, fault: Fault) -> None:
        """Fail the connection (RFC 6455 section 7.1.7)."""
        assert self.read_lock.locked()
        self._fault = self.fault_deadline = None
        reason = CloseReason(fault.code, fault.reason, fault.cause)
        if self._protocol.close_sent:
            # There is no second Close to send, and no answer to wait for.
            self._ending.finish(reason)
            return
        self._ending.begin(reason, monotonic() + self._close_timeout)
        self._writer.close()
