"""The raw session: frames in, frames out, and nothing done for the handler.

Concurrency: every method may be called from any thread. One thread at a time may be in
``receive_frame()``; any number may send, and frames go out whole, one after the other.
``terminate()`` wakes them all. No thread is started for a raw session. Callbacks of its future run
in the thread that finds the session ended: in ``receive_frame()``, ``send_frame()`` or
``terminate()``, or in the handler's thread once the handler has returned.

It has two locks: ``_receiving`` for reading and parsing, ``_writing`` for checking and writing. No
thread waits for one of them while it holds the other. The lock of ``Ending`` is taken under either.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from wsproto.frame_protocol import Opcode

from ..close import CloseCode, CloseReason
from ..errors import ConcurrencyError, SendTimeoutError
from ..options import check_timeout
from ..protocol.events import Fault
from ..protocol.raw_frames import (
    Frame,
    FrameInput,
    FrameOutput,
    read_close,
)
from ..system.deadline import Deadline
from ..system.patience import Patience
from ..system.scheduler import SCHEDULER
from ..system.transport import BrokenError, DeadlineError
from ..system.turns import MESSAGES, MESSAGES_BEFORE_READING, let_others_run
from ..system.wakeup import Wakeup
from .common import CommonSession, Traffic
from .ending import Ending

if TYPE_CHECKING:
    from ..close import Cause
    from .opening import Opening

__all__ = ["RawSession"]

_SECOND_READER = (
    "another thread is in receive_frame() on this session; let one thread receive "
    "and hand the frames on, for example through a queue.Queue"
)


def _abnormal(reason: str, cause: Cause) -> CloseReason:
    """Of an end without a Close."""
    return CloseReason(CloseCode.ABNORMAL_CLOSURE, reason, cause)


class RawSession(CommonSession):
    """A WebSocket connection of which the handler sees every frame.

    The session sends no pings, answers neither pings nor a Close, and does not
    join fragments. The handler does all of that. The session ends when the
    handler returns. If the handler has sent no Close by then, the peer sees the
    connection end without one.

    The session sends a Close by itself in three cases only: 1001 when the server
    stops, 1011 when the handler raises, and 1002 or 1009 when the bytes of the
    peer can not be a frame.

    ``environ`` is the WSGI environ of the request that opened the session.
    ``subprotocol`` is the subprotocol agreed on, or None. ``extensions`` is the
    value of ``Sec-WebSocket-Extensions`` in the 101, and an empty string without
    ``install_extensions``.
    """

    extensions: str

    def __init__(self, opening: Opening) -> None:
        options, extensions = opening.options, opening.extensions
        super().__init__(opening)
        self.extensions = extensions
        self._timeout = options.timeout
        self._close_timeout = options.close_timeout
        self._transport = transport = opening.transport
        self._input = FrameInput(
            options.max_frame_size or options.max_message_size, deflate=bool(extensions)
        )
        self._input.receive_data(opening.received)
        self._output = FrameOutput(deflate=bool(extensions), masking=bool(options.masking))
        self._ending = Ending(self, transport, Wakeup())
        self._receiving = threading.Lock()
        # Frames received without waiting since this thread last yielded (see turns.py). Guarded by
        # _receiving.
        self._unwaited = 0
        self._writing = threading.Lock()
        # Whether the handler can send no more: the session is ended for it.
        self._sending_over = False
        # The Close that is sent for the handler, until it is sent, and the rest of it that the
        # socket has not taken yet. Taken out under _writing.
        self._owed: CloseReason | None = None
        self._rest = b""
        # Whether the scheduler has this session. For the thread that opens and concludes.
        self._scheduled = False

    # Frames

    def receive_frame(self, timeout: float | None = None) -> Frame:
        """Return the next frame of any kind, as it arrived.

        ``timeout`` is in seconds. None waits for ever, 0 does not wait.

        Raises ``TimeoutError`` if no frame arrives in time: nothing is lost, and you can call it
        again. Raises ``ConnectionClosed`` after the peer's Close, and once the session has ended
        *and* every frame received before was delivered. Raises ``ConcurrencyError`` while another
        thread is in ``receive_frame()``.

        Bytes that are not a valid frame fail the connection (RFC 6455 section 7.1.7) with 1002: a
        frame that is not masked, whose size is not written the shortest way, with a reserved
        opcode, a reserved bit without a meaning, or a control frame that is too long or
        fragmented. A frame larger than ``max_frame_size`` fails it with 1009. The handler itself
        checks the order of the frames and their payloads.
        """
        timeout = check_timeout("timeout", timeout)
        if not self._receiving.acquire(blocking=False):
            raise ConcurrencyError(_SECOND_READER)
        try:
            return self._receive(check_timeout("timeout", timeout))
        except DeadlineError:
            raise TimeoutError(f"no frame within {timeout:g} s") from None
        finally:
            self._receiving.release()
            self._publish()

    def _receive(self, timeout: float | None) -> Frame:
        assert self._receiving.locked()
        deadline = None if timeout is None else Deadline(timeout)
        left = None
        waited = False
        while True:
            frame = self._input.next_frame()
            if isinstance(frame, Frame):
                if not waited:
                    self._unwaited += 1
                    if self._unwaited >= MESSAGES:
                        self._yield()
                if frame.opcode == Opcode.CLOSE:
                    self._ending.begin(CloseReason(*read_close(frame.payload), "peer"), math.inf)
                    self._ending.close_received()
                return frame
            if isinstance(frame, Fault):
                self._start_closing(CloseReason(frame.code, frame.reason, frame.cause))
            if self._input.over or self._ending.finished:
                raise self._ending.exception()
            if self._unwaited >= MESSAGES_BEFORE_READING:
                self._yield()
            if deadline is not None:
                if left == 0.0:
                    raise DeadlineError  # one more read after the deadline is enough
                left = deadline.left
            waited = True
            try:
                data = self._transport.receive(left, self._input.expected_bytes)
            except BrokenError as exc:
                self._ending.finish(_abnormal(str(exc), "error"))
                continue
            if data:
                self._input.receive_data(data)
            else:
                self._ending.finish(_abnormal("end of file without a Close", "eof"))

    def _yield(self) -> None:
        self._unwaited = 0
        let_others_run()

    def send_frame(self, frame: Frame, timeout: float | None = None) -> None:
        """Send a frame as it is.

        Waits for other threads' frames to be written, and then for the peer to read. If you give a
        ``timeout``, it is the number of seconds for the whole call. Otherwise the ``timeout`` of
        the options counts, which begins anew whenever the peer reads. When this returns, the
        operating system has taken the whole frame.

        Raises ``ValueError`` if the protocol forbids the frame, in itself or after those sent
        before: nothing was sent, and the session goes on. ``Frame(…, unchecked=True)`` is sent all
        the same. Raises ``ConnectionClosed`` once the session has ended, or a Close was sent for
        the handler. Raises ``SendTimeoutError`` if the peer did not read in time: a part of the
        frame may have been written, so the session is terminated. Raises ``TimeoutError`` if other
        threads' frames took too long: nothing was sent, and the session goes on.
        """
        if not isinstance(frame, Frame):
            raise TypeError(f"send_frame() sends a Frame, not {type(frame).__name__}")
        renewed = timeout is None
        timeout = self._timeout if timeout is None else check_timeout("timeout", timeout)
        left = timeout
        if not self._writing.acquire(blocking=False):
            patience = Patience(self._transport, timeout, renewed=renewed)
            while not self._writing.acquire(timeout=patience.left):
                if patience.is_over():
                    raise TimeoutError(
                        f"other threads were writing for {timeout:g} s; nothing was sent, try again"
                    )
            if not renewed:
                left = patience.left
        try:
            if self._sending_over or self._ending.finished:
                raise self._ending.exception()
            self._write(frame, left, renewed=renewed)
        finally:
            self._writing.release()
            self._send_owed(left)
            self._publish()

    def _write(self, frame: Frame, timeout: float, *, renewed: bool) -> None:
        assert self._writing.locked()
        header = b""
        try:
            header, payload = self._output.encode(frame)
            if frame.opcode == Opcode.CLOSE:
                self._ending.begin(CloseReason(*read_close(frame.payload), "local"), math.inf)
            self._transport.send(header, payload, timeout, renewed=renewed)
        except DeadlineError:
            # A part of the frame may have been written, so nothing can be sent behind it.
            reason = _abnormal("a write timed out", "send_timeout")
            self._ending.finish(reason)
            raise SendTimeoutError(reason, self) from None
        except BrokenError as exc:
            # The frames that the peer sent before it went can still be received.
            self._ending.begin(_abnormal(str(exc), "error"), math.inf)
            raise self._ending.exception() from exc
        except BaseException as exc:
            # A frame that can not be sent leaves no trace. Else a signal handler has raised, for
            # one: a part may have been written, or the frame counts as sent and was not written.
            if header or not isinstance(exc, Exception):
                self._ending.finish(_abnormal("a write was interrupted", "error"))
            raise
        if frame.opcode == Opcode.CLOSE:
            self._ending.close_sent()

    def _send_owed(self, timeout: float = 0.0) -> None:
        """Send the Close that is sent for the handler, if there is room for it in time.

        If another thread is writing, that thread does this when it is done.
        """
        while self._owed is not None and self._writing.acquire(blocking=False):
            try:
                if not self._write_owed(timeout):
                    return
            finally:
                self._writing.release()

    def _write_owed(self, timeout: float) -> bool:
        """Returns False if the peer does not read: the Close, or its rest, stays owed."""
        assert self._writing.locked()
        if self._owed is not None and not self._output.close_sent:
            payload = self._owed.code.to_bytes(2, "big") + self._owed.reason.encode()
            self._rest = b"".join(self._output.encode(Frame(Opcode.CLOSE, payload)))
        if self._rest:
            before = self._transport.sent
            try:
                self._transport.send(self._rest, b"", timeout)
            except DeadlineError:
                self._rest = self._rest[self._transport.sent - before :]
                return False
            except BrokenError:
                pass  # the connection has ended, and the peer with it
            else:
                self._ending.close_sent()
        self._rest, self._owed = b"", None
        return True

    # The end

    def terminate(self) -> None:
        """End the connection now, without a closing handshake."""
        super().terminate()
        self._publish()

    def _publish(self) -> None:
        """Publish the end, if it is finished. Holds no lock."""
        if self._ending.finished:
            self._ending.publish()

    def on_time(self, now: float) -> None:
        """The end that has begun has to be over. The scheduler calls this."""
        self._send_owed()
        self._ending.finish(CloseReason())

    # For servers

    def _prepare(self) -> None:
        SCHEDULER.enter(self)
        self._scheduled = True

    def _opened(self) -> None:
        pass

    def _traffic(self) -> Traffic:
        return Traffic(
            self._input.messages,
            self._output.messages,
            self._transport.received,
            self._transport.sent,
        )

    def _start_closing(self, reason: CloseReason) -> None:
        if self._ending.finished:
            return
        deadline = Deadline(self._close_timeout).at
        self._ending.begin(reason, deadline)
        # In this order: no thread finds the Close sent and sending still allowed.
        self._sending_over = True
        self._owed = reason
        SCHEDULER.schedule(self, deadline)
        self._send_owed()

    def _end(self, reason: CloseReason) -> None:
        """End the connection when the peer has read everything, within ``close_timeout``.

        Only a handler that has failed leaves a Close to be sent.
        """
        if self._ending.finished:
            return
        if reason.cause == "error":
            self._start_closing(reason)
        deadline = Deadline(self._close_timeout)
        self._ending.begin(_abnormal("the handler returned without a Close", "local"), deadline.at)
        self._sending_over = True
        if self._writing.acquire(timeout=deadline.left):
            try:
                self._write_owed(deadline.left)
                self._transport.shutdown_write()
            finally:
                self._writing.release()
        if self._receiving.acquire(timeout=deadline.left):
            try:
                self._read_to_the_end(deadline)
            finally:
                self._receiving.release()
        self._ending.finish(CloseReason())

    def _read_to_the_end(self, deadline: Deadline) -> None:
        """Read up to the peer's Close or its end of file, and throw the bytes away.

        Ending a connection with bytes unread would reset it, and the peer might lose bytes that
        it had not read yet.
        """
        assert self._receiving.locked()
        try:
            while not self._ending.finished:
                while self._input.next_frame() is not None:
                    pass
                if self._input.close_received or deadline.passed:
                    return
                data = self._transport.receive(deadline.left)
                if not data:
                    return
                self._input.receive_data(data)
        except (DeadlineError, BrokenError):
            return

    def _conclude(self, reason: CloseReason) -> None:
        self._end(reason)
        self._publish()
        if self._scheduled:
            self._scheduled = False
            SCHEDULER.leave(self)
