"""Writing: whole frames, one after the other, each with a deadline.

``write_lock`` is held over encoding *and* writing, so the order on the wire is
the order of the protocol. Who takes it:

* ``send()`` and ``ping()``, in any thread, wait for it and for the peer, until
  their deadline;
* ``pong()`` and ``close()``, in the reader above all, **never wait**: two
  peers with full buffers that both waited to write a pong would wait for each
  other. What they have to say goes into a slot, and is written at once if
  nobody is writing and the socket takes it; else by whoever writes next, or by
  the ping thread once the socket takes it. One slot for the latest pong is
  enough (RFC 6455 section 5.5.3), and a session sends one Close.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from ..close import CloseCode, CloseReason
from ..protocol.outbound import MessageOpenError
from ..system.transport import BrokenError, DeadlineError

if TYPE_CHECKING:
    from ..protocol.messages import Protocol
    from ..protocol.outbound import Binary, Data
    from ..protocol.prepared import PreparedMessage
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending

__all__ = ["Writer"]

Payload = TypeVar("Payload")

#: Bytes of control frames that wait for room in the socket, at most.
_MAX_BACKLOG = 512


def _check_part(part: Any) -> None:
    if not isinstance(part, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a message consists of str or of bytes, not of {type(part).__name__}")


class Writer:
    """The sending half of a session. Every method is for any thread."""

    def __init__(
        self, protocol: Protocol, transport: Transport, ending: Ending, wakeup: Wakeup
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._ending = ending
        self._wakeup = wakeup
        # Held for as long as a message in fragments takes, and by who waits for
        # its end; before write_lock.
        self._message_lock = threading.Lock()
        # The thread that sends a message in fragments.
        self._fragmenting_thread: threading.Thread | None = None
        #: Held over encoding and writing; see the top of the file. The lock of
        #: ``Ending`` may be taken under it, the reader's locks never.
        self.write_lock = threading.Lock()
        # The thread that writes a frame and may wait for the peer, by its ident. Under write_lock.
        self._sender: int | None = None
        # The slots, emptied under write_lock. The latest pong only, put in by
        # who reads; and whether the Close of the end that has begun is wanted.
        self._pong: list[bytes] = []
        self._close_wanted = False
        # Messages for many that wait for room in the socket. Appended, and
        # given up, by anybody; taken out under write_lock.
        self._waiting: deque[PreparedMessage] = deque()
        # The rest of a frame, a control frame or one of those messages, that
        # the socket took only a part of: goes out before anything else. Under
        # write_lock.
        self._backlog = b""
        # Whether something waits for a full socket: the ping thread then waits
        # until there is room and calls flush_control(). Written under
        # write_lock.
        self._blocked = False
        #: Since when the peer has read nothing of what waits (monotonic), and
        #: what it had read until then. Written under write_lock.
        self.blocked_since = 0.0
        self._blocked_at = -1
        # Whether our Close has gone out whole. Written under write_lock; the
        # reader looks at it after it has noted the peer's Close, the writer
        # looks for the peer's Close after it has set this: one of them sees
        # both.
        self._close_written = False
        #: Why the peer can no longer be written to. It may still have been
        #: heard: the end is the reader's to find.
        self.broken: BrokenError | None = None

    def send(self, data: Data, timeout: float) -> None:
        """Write one message within ``timeout`` seconds.

        Raises ``ConnectionClosed`` once the session is ending; ``TimeoutError``
        when other threads kept the connection busy for so long, and nothing
        was written; ``SendTimeoutError`` when it was this one's turn, the peer
        did not read for as long, and the session was terminated;
        ``BrokenError`` when the connection broke.
        """
        try:
            self._write_frame(self._protocol.message, data, timeout)
        except MessageOpenError:
            self._acquire_message(timeout)
            try:
                self._write_frame(self._protocol.message, data, timeout)
            finally:
                self._message_lock.release()

    def send_prepared(self, message: PreparedMessage, timeout: float) -> None:
        """As ``send()``, of a message that has been encoded for all."""
        self._acquire_message(timeout)
        try:
            self._write_frame(self._protocol.prepared, message, timeout)
        finally:
            self._message_lock.release()

    def offer(self, message: PreparedMessage, room: int) -> bool:
        """Write a message without waiting, or have it wait until the peer reads.

        False when ``room`` messages wait already. A session that is ending
        takes everything, and sends nothing.
        """
        if not self.write_lock.acquire(blocking=False):
            return self._queue(message, room)
        try:
            if self._ending.reason is not None or self.broken is not None:
                return True
            if self._waiting or self._backlog or self._protocol.fragmenting:
                return self._queue(message, room)
            frame, _ = self._protocol.prepared(message)
            written = self._transport.send_now(frame)
            if written < len(frame):
                self._backlog = frame[written:]
        except BrokenError as exc:
            self.broken = exc
        finally:
            self.write_lock.release()
            if self._control_waits():
                self.flush_control()
        return True

    def _queue(self, message: PreparedMessage, room: int) -> bool:
        if len(self._waiting) >= room:
            return False
        self._waiting.append(message)
        if not self.write_lock.locked():
            self.flush_control()
        return True

    def forget_offers(self, number: int) -> int:
        """Give up the ``number`` oldest of the messages that wait; gives how many there were."""
        for forgotten in range(number):
            try:
                self._waiting.popleft()
            except IndexError:
                return forgotten
        return number

    def send_parts(self, parts: Iterable[Data], timeout: float, close_timeout: float) -> None:
        """Write one message in fragments, each as soon as ``parts`` gives it.

        Control frames go out in between; other messages wait. Raises as
        ``send()`` does, what ``parts`` raises, ``TypeError`` for what can not
        be sent, and ``ValueError`` when there is no part at all. A message that
        has begun and can not be completed ends the session, with 1011.
        """
        self._acquire_message(timeout)
        self._fragmenting_thread = threading.current_thread()
        try:
            empty: Data | None = None
            for part in parts:
                _check_part(part)
                if empty is None:
                    empty = "" if isinstance(part, str) else b""
                self._write_frame(self._encode_part, part, timeout)
            if empty is None:
                raise ValueError("there is no message in an iterable that gives nothing")
            self._write_frame(self._encode_end, empty, timeout)
        finally:
            if self._protocol.fragmenting:
                broken_off = CloseReason(
                    CloseCode.INTERNAL_ERROR, "a message was broken off", "error"
                )
                self._ending.begin(broken_off, monotonic() + close_timeout)
                self.close()
            self._fragmenting_thread = None
            self._message_lock.release()

    @property
    def messages(self) -> int:
        """Messages that were sent."""
        return self._protocol.messages_sent

    def _encode_part(self, part: Data) -> tuple[bytes, Binary]:
        return self._protocol.fragment(part, finished=False), b""

    def _encode_end(self, empty: Data) -> tuple[bytes, Binary]:
        return self._protocol.fragment(empty, finished=True), b""

    def flush(self, timeout: float) -> None:
        """Wait until what was to be sent before is written.

        Raises ``TimeoutError`` after ``timeout`` seconds. Does nothing once the
        connection has ended.
        """
        deadline = monotonic() + timeout
        self._acquire_message(timeout)
        try:
            self._acquire(self.write_lock, deadline - monotonic())
            try:
                while not self._ending.finished and not self._write_control():
                    if not self._transport.wait(write=True, timeout=deadline - monotonic()):
                        raise TimeoutError(f"the peer has not read within {timeout} s")
            finally:
                self.write_lock.release()
        finally:
            self._message_lock.release()

    def ping(self, payload: bytes, timeout: float) -> None:
        """Write a ping; raises what ``send()`` does."""
        self._write_frame(lambda payload: (self._protocol.ping(payload), b""), payload, timeout)

    def _write_frame(
        self, encode: Callable[[Payload], tuple[bytes, Binary]], payload: Payload, timeout: float
    ) -> None:
        # Waiting for a turn does not count against the peer.
        if not self.write_lock.acquire(blocking=False):
            self._acquire(self.write_lock, timeout)
        try:
            if self._ending.reason is not None:
                raise self._ending.exception()
            while self._waiting and (frame := self._next_waiting()):
                # In order, and encoded in that order too.
                self._backlog += frame
            self._write(encode(payload), timeout)
        finally:
            self.write_lock.release()
            if self._control_waits():
                self.flush_control()

    def _acquire_message(self, timeout: float) -> None:
        """Wait for the end of a message in fragments."""
        if self._fragmenting_thread is threading.current_thread():
            raise RuntimeError(
                "this thread is sending a message in fragments, and would wait for itself: what "
                "makes the fragments can not send or flush; yield what belongs to the message"
            )
        self._acquire(self._message_lock, timeout)

    @staticmethod
    def _acquire(lock: threading.Lock, timeout: float) -> None:
        if not lock.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX)):
            raise TimeoutError(
                f"other threads were writing for {timeout} s; nothing was sent, try again"
            )

    def try_ping(self, payload: bytes) -> bool:
        """Send a ping without waiting; False when something else is in the way,
        which has a deadline of its own.

        When the socket is full the ping goes out as soon as there is room.
        """
        if not self.write_lock.acquire(blocking=False):
            return False
        try:
            if self._ending.reason is not None or len(self._backlog) >= _MAX_BACKLOG:
                return False
            self._backlog += self._protocol.ping(payload)
            self._write_backlog()
            return True
        finally:
            self.write_lock.release()
            if self._control_waits():
                self.flush_control()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, now or as soon as possible."""
        self._pong[:] = [payload]
        self.flush_control()

    def close(self) -> None:
        """Send the Close of the end that has begun, now or as soon as possible."""
        self._close_wanted = True
        self.flush_control()

    def settle(self) -> None:
        """The peer's Close was received: if ours is written too, that was all.

        The server ends TCP first (RFC 6455 section 7.1.1); a client waits for
        that, up to the deadline of the end.
        """
        if self._close_written and self._protocol.close_received and not self._protocol.client:
            self._ending.finish(CloseReason())

    def flush_control(self) -> None:
        """Write what waits in the slots, as far as the socket takes it.

        If another thread is writing, it will do this when it is done: it looks
        at the slots after it has released the lock.
        """
        while self._control_waits():
            if not self.write_lock.acquire(blocking=False):
                return
            try:
                self._blocked = not self._write_control()
                if self._blocked and self._transport.sent != self._blocked_at:
                    self._blocked_at = self._transport.sent
                    self.blocked_since = monotonic()
            finally:
                self.write_lock.release()
            if self._blocked:
                self._wakeup.set()
                return

    @property
    def wants_room(self) -> bool:
        """Whether a control frame waits for room in the socket and nobody sees to it."""
        return self._blocked and self._control_waits() and not self.write_lock.locked()

    def _control_waits(self) -> bool:
        return (
            bool(self._pong or self._backlog)
            or (self._close_wanted and not self._protocol.close_sent)
            or (bool(self._waiting) and self._may_write_messages())
        )

    def _may_write_messages(self) -> bool:
        return (
            not self._protocol.fragmenting and not self._protocol.close_sent and self.broken is None
        )

    def _next_waiting(self) -> bytes | None:
        """The next of the messages that wait, encoded. Requires write_lock."""
        if not self._may_write_messages():
            return None
        try:
            message = self._waiting.popleft()
        except IndexError:
            return None
        return self._protocol.prepared(message)[0]

    def _write_control(self) -> bool:
        """Empty the slots; False when the socket is full. Requires write_lock."""
        assert self.write_lock.locked()
        if not self._write_backlog():
            return False
        if self._pong:
            pong = self._pong.pop()
            if not self._protocol.close_sent:
                self._backlog = self._protocol.pong(pong)
                if not self._write_backlog():
                    return False
        while frame := self._next_waiting():
            self._backlog = frame
            if not self._write_backlog():
                return False
        if self._close_wanted and not self._protocol.close_sent:
            reason = self._ending.reason
            assert reason is not None
            self._backlog = self._protocol.close(reason.code, reason.reason)
            if not self._write_backlog():
                return False
        if self._protocol.close_sent and not self._close_written:
            self._close_written = True
            self.settle()
            if self._protocol.failed:
                # Nothing the peer still sends means anything. Let it read our
                # Close before the connection goes: whoever reads next throws
                # away the rest of its bytes, up to its end of file.
                self._transport.shutdown_write()
        return True

    def _write(self, parts: tuple[bytes, Binary], timeout: float) -> None:
        """Write all of it in time, or terminate. Requires write_lock."""
        assert self.write_lock.locked()
        head, payload = parts
        if self._backlog:
            head = self._backlog + head
            self._backlog = b""
        self._sender = get_ident()
        try:
            self._transport.send(head, payload, timeout)
        except DeadlineError:
            # The stream is cut inside a frame: there is no way to go on.
            self._ending.finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write timed out", "send_timeout")
            )
            raise self._ending.exception() from None
        except BrokenError as exc:
            self.broken = self.broken or exc
            raise
        except BaseException:
            # Whatever it was, a part may have been written.
            self._ending.finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write was interrupted", "error")
            )
            raise
        finally:
            self._sender = None

    @property
    def interrupted(self) -> bool:
        """Whether this thread is in ``send()``: it runs a signal handler now."""
        return self._sender == get_ident()

    def _write_backlog(self) -> bool:
        """Write what is left of control frames; False when the socket is full."""
        assert self.write_lock.locked()
        if self._backlog and self.broken is None:
            try:
                self._backlog = self._backlog[self._transport.send_now(self._backlog) :]
            except BrokenError as exc:
                self.broken = exc
        if self.broken is not None:
            self._backlog = b""
        return not self._backlog
