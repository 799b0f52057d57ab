"""Output: what waits for room in the socket, and how frames leave.

``write_lock`` is held over encoding *and* writing, so the order on the wire is the order of the
protocol. ``send()`` and ``ping()`` wait for it (``writer.py``). A pong, a Close and an offered
message **never wait**: two peers with full buffers that both waited to write a pong would wait for
each other. They go into a slot. It is written at once if no thread is writing and the socket takes
it; otherwise the next writing thread writes it, or the ping thread when the socket has room. One
slot for the latest pong is enough (RFC 6455 section 5.5.3), and a session sends one Close.

The lock of ``Ending`` may be taken under ``write_lock``, the locks of the reader never.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ..close import CloseCode, CloseReason
from ..system.stack import is_on_stack
from ..system.transport import BrokenError, DeadlineError

if TYPE_CHECKING:
    from ..protocol.messages import Protocol
    from ..protocol.prepared import PreparedMessage
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending

__all__ = ["Output"]

#: Bytes of control frames that wait for room in the socket, at most.
_MAX_BACKLOG = 512

# The queue of every session to which nothing was offered that had to wait. Nothing is ever put in.
# An empty deque takes 0.7 KiB.
_NOTHING: deque[PreparedMessage] = deque()
# The same for pongs: until the peer sends a ping, there is none.
_NO_PONG: list[bytes] = []


class Output:
    """The slots of a session, and its frames on their way into the socket. Every method may be
    called from any thread."""

    __slots__ = (
        "_backlog",
        "_blocked",
        "_blocked_at",
        "_close_wanted",
        "_close_written",
        "_ending",
        "_fragmenting",
        "_pong",
        "_protocol",
        "_queues",
        "_shared",
        "_shares_frames",
        "_transport",
        "_waiting",
        "_wakeup",
        "_writing_thread",
        "blocked_since",
        "broken",
        "write_lock",
    )

    def __init__(
        self, protocol: Protocol, transport: Transport, ending: Ending, wakeup: Wakeup
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._ending = ending
        self._wakeup = wakeup
        #: Held over encoding and writing; see the top of the file.
        self.write_lock = threading.Lock()
        # What offer() needs of the protocol stands here too. A broadcast to hundreds of sessions
        # finds no object in the processor's fastest cache, so each one that it touches costs.
        # Whether a message in fragments is being sent. Written under write_lock.
        self._fragmenting = False
        # Whether the frame of a prepared message goes out as it is. How many did: the protocol
        # has not counted them. The number is written under write_lock.
        self._shares_frames = protocol.shares_frames
        self._shared = 0
        # The thread that holds write_lock in a call that may wait for the peer; 0 for none.
        self._writing_thread = 0
        # The slots, emptied under write_lock: the latest pong, which the reading thread puts in,
        # and whether the Close of the end that has begun has to be sent.
        self._pong = _NO_PONG
        self._close_wanted = False
        # Offered messages that wait for room in the socket. Any thread appends and gives up;
        # taken out under write_lock.
        self._waiting = _NOTHING
        # Empty until a message has to wait. The first one is _waiting from then on.
        self._queues: list[deque[PreparedMessage]] = []
        # The rest of a frame of which the socket has taken a part. It goes out before anything
        # else. Guarded by write_lock.
        self._backlog = b""
        # Whether something waits for a full socket. The ping thread then waits for room and calls
        # flush_control(). Written under write_lock.
        self._blocked = False
        #: Since when (monotonic) the peer has read nothing of what waits, and how much it had
        #: read until then. Written under write_lock, and by the thread that attends.
        self.blocked_since = 0.0
        self._blocked_at = -1
        # Whether the ending has been told that our Close has gone out whole. Guarded by
        # write_lock.
        self._close_written = False
        #: Why the peer can no longer be written to. It may still have sent something: the
        #: reading thread finds the end.
        self.broken: BrokenError | None = None

    @property
    def messages(self) -> int:
        """Messages that were sent."""
        return self._protocol.messages_sent + self._shared

    def is_written_by_this_thread(self) -> bool:
        """Whether the calling thread is in a call that writes: a signal handler has
        interrupted it."""
        return self._writing_thread == threading.get_ident()

    def is_interrupted(self) -> bool:
        """As ``is_written_by_this_thread()``, also in calls that do not wait, and while the lock
        is held and its thread is not noted yet. Not for the methods of this object."""
        return self.is_written_by_this_thread() or (
            self._writing_thread == 0 and self.write_lock.locked() and is_on_stack(self)
        )

    def offer(self, message: PreparedMessage, room: int) -> bool:
        """Write a message without waiting, or let it wait until the peer reads.

        Returns False when ``room`` messages wait already. A session that is ending takes
        everything, and sends nothing.
        """
        if not self.write_lock.acquire(False):
            return self._queue(message, room)
        try:
            if self._ending.reason is not None or self.broken is not None:
                return True
            if self._waiting or self._backlog or self._fragmenting:
                return self._queue(message, room)
            if self._shares_frames:
                # As in prepared(), which is not called for most sessions.
                frame = message.frame
                self._shared += 1
            else:
                frame, _ = self._protocol.prepared(message)
            try:
                written = self._transport.send_now(frame)
                if written < len(frame):
                    self._backlog = frame[written:]
            except BrokenError as exc:
                self.broken = exc
            except BaseException as exc:
                self._sending_failed(exc)
                raise
        finally:
            self.write_lock.release()
            # As _control_waits(), for the usual case that nothing does.
            if (
                self._pong or self._backlog or self._close_wanted or self._waiting
            ) and self._control_waits():
                self.flush_control()
        return True

    def _queue(self, message: PreparedMessage, room: int) -> bool:
        if len(self._waiting) >= room:
            return False
        if self._waiting is _NOTHING:
            # Several threads may be here, and a signal handler. All of them take the first.
            self._queues.append(deque())
            self._waiting = self._queues[0]
        self._waiting.append(message)
        if not self.write_lock.locked():
            self.flush_control()
        return True

    def forget_offers(self, number: int) -> int:
        """Give up the ``number`` oldest of the messages that wait. Returns how many there were."""
        for forgotten in range(number):
            try:
                self._waiting.popleft()
            except IndexError:
                return forgotten
        return number

    def try_ping(self, payload: bytes) -> bool:
        """Send a ping without waiting. Returns False if another thread is writing, whose call
        has a deadline of its own.

        If the socket is full, the ping goes out as soon as there is room.
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
        """Answer a ping, now or as soon as there is room."""
        if self._pong is _NO_PONG:
            self._pong = []
        self._pong[:] = [payload]
        self.flush_control()

    def close(self) -> None:
        """Send the Close of the end that has begun, now or as soon as there is room."""
        self._close_wanted = True
        self.flush_control()

    def flush_control(self) -> None:
        """Write the contents of the slots, as far as the socket takes them.

        If another thread is writing, that thread does it: it looks at the slots after it has
        released the lock.
        """
        while self._control_waits():
            if not self.write_lock.acquire(blocking=False):
                return
            try:
                self._blocked = not self._write_control()
                if self._blocked:
                    self._note_progress()
            finally:
                self.write_lock.release()
            if self._blocked:
                self._wakeup.set()
                return

    @property
    def wants_room(self) -> bool:
        """Whether something waits for room in the socket, and no thread is writing."""
        return self._blocked and self._control_waits() and not self.write_lock.locked()

    def stuck_since(self) -> float:
        """Since when (monotonic) the peer has read nothing of what waits for room."""
        if self.write_lock.acquire(blocking=False):
            try:
                self._note_progress()
            finally:
                self.write_lock.release()
        return self.blocked_since

    def _note_progress(self) -> None:
        """Requires write_lock."""
        progress = self._transport.progress()
        if progress != self._blocked_at:
            self._blocked_at = progress
            self.blocked_since = monotonic()

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
        """The next of the offered messages that wait, encoded. Requires write_lock."""
        if not self._may_write_messages():
            return None
        try:
            message = self._waiting.popleft()
        except IndexError:
            return None
        return self._protocol.prepared(message)[0]

    def _write_control(self) -> bool:
        """Empty the slots. Returns False if the socket is full. Requires write_lock."""
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
            self._ending.close_sent()
            if self._protocol.failed:
                # What the peer still sends is ignored. It has to be able to read our Close before
                # the connection goes, so the next reading thread throws away the rest of its
                # bytes, up to its end of file.
                self._transport.shutdown_write()
        return True

    def _sending_failed(self, error: BaseException) -> None:
        """A frame was not written whole in time: terminate. Requires write_lock.

        Raises ``SendTimeoutError`` if the peer did not read.
        """
        assert self.write_lock.locked()
        if isinstance(error, DeadlineError):
            # A part of the frame may have been written, so nothing can be sent behind it.
            self._ending.finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write timed out", "send_timeout")
            )
            raise self._ending.exception() from None
        if isinstance(error, BrokenError):
            self.broken = self.broken or error
        else:
            # A signal handler has raised, for one: a part may have been written, or all of it.
            # It must not be written again.
            self._ending.finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write was interrupted", "error")
            )

    def _write_backlog(self) -> bool:
        """Write the rest of a frame. Returns False if the socket is full. Requires write_lock."""
        assert self.write_lock.locked()
        if self._backlog and self.broken is None:
            try:
                written = self._transport.send_now(self._backlog)
                self._backlog = self._backlog[written:]
            except BrokenError as exc:
                self.broken = exc
            except BaseException as exc:
                self._sending_failed(exc)
                raise
        if self.broken is not None:
            self._backlog = b""
        return not self._backlog
