"""Input: from the socket to the protocol, and from there to the queue or to whom it concerns.

``read_lock`` is held by the thread that reads the socket and feeds the protocol:

* a ``receive()``, which may wait for the peer for ever (``reader.py``);
* the ping thread, and the thread of a handler that works on queued messages, which read only
  what has arrived (``stand_in()``);
* a ``close()``, which waits for the peer's Close until its deadline.

The thread that holds it may write control frames: no writer ever waits for it. It is taken after
``receiving`` and before ``write_lock`` and the lock of ``Ending``.
"""

from __future__ import annotations

import errno
import threading
from time import monotonic
from typing import TYPE_CHECKING

from ..close import CloseCode, CloseReason
from ..protocol.events import Fault, Part, PeerClose, Ping, Pong
from ..system.deadline import Deadline, bounded
from ..system.stack import is_on_stack
from ..system.transport import BrokenError, DeadlineError
from .read_ahead import MAX_UNFINISHED_BYTES, ReadAhead

if TYPE_CHECKING:
    from ..protocol.events import Event
    from ..protocol.messages import Protocol
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending
    from .pings import Pings
    from .writer import Writer

__all__ = ["Intake"]


class Intake:
    """What every reading thread does; ``Reader`` adds what the handler needs."""

    __slots__ = (
        "_close_timeout",
        "_discarding",
        "_ending",
        "_fault",
        "_pings",
        "_protocol",
        "_queue",
        "_read_ahead",
        "_reading_thread",
        "_transport",
        "_wakeup",
        "_writer",
        "fault_deadline",
        "limited",
        "read_lock",
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
        self._protocol = protocol
        self._transport = transport
        self._writer = writer
        self._ending = ending
        self._pings = pings
        self._wakeup = wakeup
        self._close_timeout = close_timeout
        self.read_lock = threading.Lock()
        # The thread that holds read_lock, 0 for none. A signal handler must not wait for the
        # thread that it has interrupted.
        self._reading_thread = 0
        # Messages are put in under read_lock, and taken out by the thread in receive().
        self._read_ahead = ReadAhead()
        # Its messages: asked for each message whether there are any. Set after each put().
        self._queue = self._read_ahead.messages
        # Whether a message was thrown away. Then all later ones are thrown away too: nobody
        # gets the end of a message without its middle. Guarded by read_lock.
        self._discarding = False
        # A fault behind the queued messages. Guarded by read_lock.
        self._fault: Fault | None = None
        #: Whether a limit on messages keeps the handler from receiving those that have arrived.
        self.limited = False
        #: Until when (monotonic) the handler may receive the messages before a fault; None
        #: without one. Any thread may read it, once for each decision.
        self.fault_deadline: float | None = None

    # For the ping thread

    @property
    def busy(self) -> bool:
        """Whether a thread is reading."""
        return self.read_lock.locked()

    @property
    def has_queued(self) -> bool:
        """Whether messages were read ahead that the handler has not received."""
        return bool(self._queue)

    @property
    def has_unparsed(self) -> bool:
        """Whether bytes were read that may hold another event."""
        return self._protocol.has_unparsed

    @property
    def reading_stopped(self) -> bool:
        """Whether nothing more is read ahead: the queue is full, or a fault ends it."""
        return self._fault is not None or self._read_ahead.is_full(self._protocol.kept_size)

    @property
    def waits_for_handler(self) -> bool:
        """Whether whole messages, or a fault behind them, keep the peer from being read.

        An unfinished message does not count. Its end can come only from the peer, so a peer that
        is silent in the middle of one is as dead as any other.
        """
        return self._fault is not None or self._read_ahead.is_full(0)

    def stand_in(self) -> bool:
        """Read what has arrived, in the handler's place; never wait for more.

        Returns False while another thread is reading.
        """
        if not self.read_lock.acquire(blocking=False):
            return False
        self._reading_thread = threading.get_ident()
        try:
            # After a Close or a fault the peer is still read, up to its end of file, and its
            # bytes are thrown away.
            if self._take_in() and not self._ending.finished:
                self._read_now()
                self._take_in()
            return True
        finally:
            self._reading_thread = 0
            self.read_lock.release()

    def read_unfinished(self) -> None:
        """Read what has arrived of a message that is too large to be read ahead; never wait.

        The keepalive calls this before it sends a ping. A peer that was held back in the middle of
        the message then goes on, and any byte is a sign of life. A peer that is silent in the
        middle of it leaves nothing unread, and is given up like any other.
        """
        if not self.reading_stopped or self.waits_for_handler:
            return
        if not self.read_lock.acquire(blocking=False):
            return
        self._reading_thread = threading.get_ident()
        try:
            while (
                self._parse_ahead()
                and not (self._ending.finished or self._protocol.input_over)
                and self._protocol.kept_size < MAX_UNFINISHED_BYTES
                and self._read_now()
            ):
                pass
        finally:
            self._reading_thread = 0
            self.read_lock.release()

    def _take_in(self) -> bool:
        """Parse the bytes that were received. Returns whether to read more."""
        if self._ending.reason is not None:
            self._make_room()
            return True
        return (self._parse_ahead() and not self.reading_stopped) or self._protocol.input_over

    def _parse_ahead(self, *, limited: bool = True) -> bool:
        """Queue the messages received so far. Returns False when the queue is full, or a fault
        has to wait for the messages before it."""
        assert self.read_lock.locked()
        while not (limited and self.waits_for_handler) and self._fault is None:
            event = self._protocol.next_event()
            if event is None:
                return True
            if isinstance(event, (str, bytes, Part)):
                if not self._discarding:
                    self._read_ahead.put(event)
                    self._queue = self._read_ahead.messages
            elif isinstance(event, Fault) and self._queue and self._ending.reason is None:
                # In order: the handler first receives, and may answer, the messages before the
                # fault. It has as long as a closing handshake may take.
                self._fault = event
                self.fault_deadline = monotonic() + self._close_timeout
            else:
                self._take_control(event)
        return False

    def fail_now(self) -> None:
        """The handler has not received the messages before a fault in time."""
        if self.read_lock.acquire(blocking=False):
            try:
                if self._fault is not None:
                    self._fail(self._fault)
            finally:
                self.read_lock.release()

    # For close()

    def is_read_by_this_thread(self) -> bool:
        """Whether the calling thread holds read_lock: a signal handler has interrupted it."""
        return self._reading_thread == threading.get_ident()

    def is_interrupted(self) -> bool:
        """As ``is_read_by_this_thread()``, also while the lock is held and its thread is not
        noted yet. Not for the methods of this object."""
        return self.is_read_by_this_thread() or (
            self._reading_thread == 0 and self.read_lock.locked() and is_on_stack(self)
        )

    def read_to_the_end(self, deadline: float) -> None:
        """Read until the closing handshake is over, or until ``deadline`` (monotonic).

        Messages that still arrive are kept for a later ``receive()`` as far as the queue has
        room. Later ones are thrown away, since this side has closed.
        """
        if not self.read_lock.acquire(timeout=bounded(deadline - monotonic())):
            return
        self._reading_thread = threading.get_ident()
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
            self._reading_thread = 0
            self.read_lock.release()

    def _make_room(self) -> None:
        """Parse up to the peer's Close. This side is closing, so messages that the queue has no
        room for are thrown away."""
        while not self._parse_ahead():
            event = self._protocol.next_event()
            if event is None:
                return
            if isinstance(event, (str, bytes, Part)):
                self._discarding = True
            else:
                self._take_control(event)

    def read_the_rest(self) -> None:
        """Writing failed: take in what the peer sent before it went, maybe a Close.

        That is what lies in the system's buffer, whose size bounds the queue this once. Waits
        only for another reading thread.
        """
        timeout = bounded(self._close_timeout)
        if self.is_read_by_this_thread() or not self.read_lock.acquire(timeout=timeout):
            return
        self._reading_thread = threading.get_ident()
        try:
            # Until nothing more has arrived, or what arrives is ignored.
            while self._parse_ahead(limited=False) and not (
                self._ending.finished or self._protocol.input_over or not self._read_now()
            ):
                pass
        finally:
            self._reading_thread = 0
            self.read_lock.release()

    # For every reading thread

    def _read(self, timeout: float | None) -> None:
        try:
            data = self._transport.receive(timeout, self._protocol.expected_bytes)
        except BrokenError as exc:
            self._broken(exc)
            return
        if data:
            self._protocol.receive_data(data)
        else:
            self._end_of_file()

    def _read_now(self) -> bool:
        """Read what has arrived. Returns False when nothing has."""
        assert self.read_lock.locked()
        try:
            data = self._transport.receive_now(self._protocol.expected_bytes)
        except BrokenError as exc:
            self._broken(exc)
            return False
        if data is None:
            return False
        if data:
            self._protocol.receive_data(data)
        else:
            self._end_of_file()
        return True

    def _end_of_file(self) -> None:
        if self._writer.broken is not None and self._writer.broken.errno == errno.ECONNRESET:
            # The system reports a reset once, and has reported it to the writer.
            self._broken(self._writer.broken)
        else:
            self._finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "end of file without a Close", "eof")
            )

    def _broken(self, error: BrokenError) -> None:
        self._finish(CloseReason(CloseCode.ABNORMAL_CLOSURE, str(error), "error"))

    def _finish(self, reason: CloseReason) -> None:
        """Nothing more will come. ``reason`` counts unless there was one before."""
        if self._fault is not None:
            self._fail(self._fault)
        self._ending.finish(reason)

    def _take_control(self, event: Event) -> None:
        """Handle an event that is not a message."""
        assert self.read_lock.locked()
        if isinstance(event, Ping):
            self._writer.pong(event.payload)
        elif isinstance(event, Pong):
            if self._pings.answered(event.payload):
                self._wakeup.set()
        elif isinstance(event, PeerClose):
            self._ending.begin(
                CloseReason(event.code, event.reason, "peer"), Deadline(self._close_timeout).at
            )
            # RFC 6455 section 5.5.1: the answer usually echoes the code.
            self._writer.close()
            self._ending.close_received()
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
        self._ending.begin(reason, Deadline(self._close_timeout).at)
        self._writer.close()
