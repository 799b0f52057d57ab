"""The raw session: frames in, frames out, and nothing done for the handler.

Concurrency: every method may be called from any thread. One thread at a time
may be in ``receive_frame()``; any number may send, and frames go out whole, one
after the other. ``terminate()`` wakes them all. No thread is started for a raw
session. Callbacks of its future run in the thread that finds the session ended:
in ``receive_frame()``, ``send_frame()`` or ``terminate()``, or in the handler's
once that has returned.

Two locks, ``_receiving`` and ``_writing``: for reading and parsing, and for
checking and writing. Nobody waits for the first while it has the second, nor
the other way round. Either may be held while ``Ending``'s is taken.
"""

from __future__ import annotations

import math
import threading
from time import monotonic
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
from ..system.scheduler import SCHEDULER
from ..system.transport import BrokenError, DeadlineError
from ..system.wakeup import Wakeup
from .common import CommonSession, Traffic
from .ending import Ending

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..close import Cause
    from ..options import Options
    from ..system.transport import Transport

__all__ = ["RawSession"]

_SECOND_READER = (
    "another thread is in receive_frame() on this session; let one thread receive "
    "and hand the frames on, for example through a queue.Queue"
)


def _abnormal(reason: str, cause: Cause) -> CloseReason:
    """Of an end without a Close."""
    return CloseReason(CloseCode.ABNORMAL_CLOSURE, reason, cause)


def _lock_timeout(timeout: float) -> float:
    return min(max(0.0, timeout), threading.TIMEOUT_MAX)


class RawSession(CommonSession):
    """A WebSocket connection of which the handler sees every frame.

    No ping is sent and none is answered, no Close is, and messages are not put
    together. The session ends when the handler returns: it has to have sent a
    Close by then, or the peer finds the connection ended without one.

    A Close is sent for the handler only where it can not do so itself: 1001
    when the server stops, 1011 when the handler raises, and 1002 or 1009 when
    what the peer sends can be no frame.

    ``environ`` is the WSGI environ of the request that opened it,
    ``subprotocol`` the subprotocol agreed on, or None, and ``extensions`` what
    the 101 says of extensions (``Sec-WebSocket-Extensions``): an empty string
    without ``install_extensions``.
    """

    extensions: str

    def __init__(
        self,
        transport: Transport,
        options: Options,
        *,
        environ: WSGIEnvironment,
        subprotocol: str | None = None,
        extensions: str = "",
        received: bytes = b"",
    ) -> None:
        self.environ = environ
        self.subprotocol = subprotocol
        self.extensions = extensions
        self._timeout = options.timeout
        self._close_timeout = options.close_timeout
        self._transport = transport
        self._input = FrameInput(
            options.max_frame_size or options.max_message_size, deflate=bool(extensions)
        )
        # What came right behind the handshake.
        self._input.receive_data(received)
        self._output = FrameOutput(deflate=bool(extensions), masking=bool(options.masking))
        self._ending = Ending(self, transport, Wakeup())
        self._receiving = threading.Lock()
        self._writing = threading.Lock()
        # Whether the handler can send no more: the session is ended for it.
        self._sending_over = False
        # The Close that is sent for the handler, until it is, and what the
        # socket has not yet taken of it. Taken out under _writing.
        self._owed: CloseReason | None = None
        self._rest = b""
        # Whether a Close has gone out whole. Written under _writing; the reader
        # looks at it after it has noted the peer's Close, the writer looks for
        # that after it has set this: one of them sees both.
        self._close_written = False
        # Whether the clock is needed. For the thread that opens and concludes.
        self._on_clock = False

    # Frames

    def receive_frame(self, timeout: float | None = None) -> Frame:
        """Wait for the next frame, of whatever kind, and give it as it came.

        ``timeout`` is in seconds; None waits for ever, 0 looks only.

        Raises ``TimeoutError`` when no frame came in time: nothing is lost and
        the call can be repeated. Raises ``ConnectionClosed`` after the peer's
        Close, and once the session has ended *and* every frame received before
        was delivered. Raises ``ConcurrencyError`` while another thread is in
        ``receive_frame()``.

        What can be no frame fails the connection (RFC 6455 section 7.1.7),
        with 1002: one that is not masked, whose size is not written the
        shortest way, with a reserved opcode, a reserved bit that no extension
        has given a meaning, or a control frame that is too long or fragmented.
        So does one that is larger than ``max_frame_size``, with 1009. Whether
        frames make sense one after the other, and their payloads, is for the
        handler to see.
        """
        if not self._receiving.acquire(blocking=False):
            raise ConcurrencyError(_SECOND_READER)
        try:
            return self._receive(check_timeout("timeout", timeout))
        except DeadlineError:
            raise TimeoutError(f"no frame within {timeout} s") from None
        finally:
            self._receiving.release()
            self._publish()

    def _receive(self, timeout: float | None) -> Frame:
        assert self._receiving.locked()
        deadline = None if timeout is None else monotonic() + timeout
        left = None
        while True:
            frame = self._input.next_frame()
            if isinstance(frame, Frame):
                if frame.opcode == Opcode.CLOSE:
                    self._ending.begin(CloseReason(*read_close(frame.payload), "peer"), math.inf)
                    self._settle()
                return frame
            if isinstance(frame, Fault):
                self._start_closing(CloseReason(frame.code, frame.reason, frame.cause))
            if self._input.over or self._ending.finished:
                raise self._ending.exception()
            if deadline is not None:
                if left == 0.0:
                    raise DeadlineError  # one look after the deadline is enough
                left = max(0.0, deadline - monotonic())
            try:
                data = self._transport.receive(left, self._input.expected_bytes)
            except BrokenError as exc:
                self._ending.finish(_abnormal(str(exc), "error"))
                continue
            if data:
                self._input.receive_data(data)
            else:
                self._ending.finish(_abnormal("end of file without a Close", "eof"))

    def send_frame(self, frame: Frame, timeout: float | None = None) -> None:
        """Send a frame as it is.

        Waits for other threads' frames to go out, and then for the peer to
        read, for ``timeout`` seconds at most each (None: the ``timeout`` of the
        options). When this returns, the frame has been handed to the operating
        system whole.

        Raises ``ValueError`` when the protocol forbids the frame, in itself or
        after those sent before: nothing was sent, and the session goes on.
        ``Frame(…, unchecked=True)`` is sent all the same.
        Raises ``ConnectionClosed`` once the session has ended, or a Close was
        sent for the handler.
        Raises ``SendTimeoutError`` when the peer did not read in time: the
        frame may have been cut, so the session is terminated.
        Raises ``TimeoutError`` when other threads' frames took too long:
        nothing was sent, and the session goes on.
        """
        if not isinstance(frame, Frame):
            raise TypeError(f"send_frame() sends a Frame, not {type(frame).__name__}")
        timeout = self._timeout if timeout is None else check_timeout("timeout", timeout)
        if not self._writing.acquire(timeout=_lock_timeout(timeout)):
            raise TimeoutError(
                f"other threads were writing for {timeout} s; nothing was sent, try again"
            )
        try:
            if self._sending_over or self._ending.finished:
                raise self._ending.exception()
            self._write(frame, timeout)
        finally:
            self._writing.release()
            self._send_owed(timeout)
            self._publish()

    def _write(self, frame: Frame, timeout: float) -> None:
        assert self._writing.locked()
        header, payload = self._output.encode(frame)
        if frame.opcode == Opcode.CLOSE:
            self._ending.begin(CloseReason(*read_close(frame.payload), "local"), math.inf)
        try:
            self._transport.send(header, payload, timeout)
        except DeadlineError:
            # The stream is cut inside a frame: there is no way to go on.
            reason = _abnormal("a write timed out", "send_timeout")
            self._ending.finish(reason)
            raise SendTimeoutError(reason, self) from None
        except BrokenError as exc:
            # What the peer sent before it went can still be received.
            self._ending.begin(_abnormal(str(exc), "error"), math.inf)
            raise self._ending.exception() from exc
        except BaseException:
            # Whatever it was, a part may have been written.
            self._ending.finish(_abnormal("a write was interrupted", "error"))
            raise
        if frame.opcode == Opcode.CLOSE:
            self._close_written = True
            self._settle()

    def _send_owed(self, timeout: float = 0.0) -> None:
        """Send the Close that is sent for the handler, if there is room for it in time.

        If another thread is writing, it will do this when it is done.
        """
        while self._owed is not None and self._writing.acquire(blocking=False):
            try:
                if not self._write_owed(timeout):
                    return
            finally:
                self._writing.release()

    def _write_owed(self, timeout: float) -> bool:
        """False when the peer does not read: the Close, or its rest, stays owed."""
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
                pass  # there is nobody to tell
            else:
                self._close_written = True
                self._settle()
        self._rest, self._owed = b"", None
        return True

    def _settle(self) -> None:
        """A Close has come, or gone: after both, the server ends TCP (RFC 6455 section 7.1.1)."""
        if self._close_written and self._input.close_received:
            self._ending.finish(CloseReason())

    # The end

    def terminate(self) -> None:
        """End the connection now, without a closing handshake."""
        super().terminate()
        self._publish()

    def _publish(self) -> None:
        """Where no lock is held."""
        if self._ending.finished:
            self._ending.publish()

    def on_time(self, now: float) -> None:
        """By the clock: the end that has begun has to be over."""
        self._send_owed()
        self._ending.finish(CloseReason())

    # For servers

    def _prepare(self) -> None:
        SCHEDULER.enter(self)
        self._on_clock = True

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
        deadline = monotonic() + self._close_timeout
        self._ending.begin(reason, deadline)
        # In this order: a thread that sees the Close sent sees also that sending is over, and a
        # thread that sees that finds the reason for it.
        self._sending_over = True
        self._owed = reason
        SCHEDULER.schedule(self, deadline)
        self._send_owed()

    def _end(self, reason: CloseReason) -> None:
        """End the connection, once the peer has read what was sent, within ``close_timeout``.

        Only a handler that has failed leaves a Close to be sent.
        """
        if self._ending.finished:
            return
        if reason.cause == "error":
            self._start_closing(reason)
        deadline = monotonic() + self._close_timeout
        self._ending.begin(_abnormal("the handler returned without a Close", "local"), deadline)
        self._sending_over = True
        if self._writing.acquire(timeout=_lock_timeout(deadline - monotonic())):
            try:
                self._write_owed(deadline - monotonic())
                self._transport.shutdown_write()
            finally:
                self._writing.release()
        if self._receiving.acquire(timeout=_lock_timeout(deadline - monotonic())):
            try:
                self._read_to_the_end(deadline)
            finally:
                self._receiving.release()
        self._ending.finish(CloseReason())

    def _read_to_the_end(self, deadline: float) -> None:
        """Read, and throw away, up to the peer's Close or its end of file.

        To end a connection with bytes unread would reset it, and the peer might
        lose what it had not read yet.
        """
        assert self._receiving.locked()
        try:
            while not self._ending.finished:
                while self._input.next_frame() is not None:
                    pass
                left = deadline - monotonic()
                if self._input.close_received or left <= 0:
                    return
                data = self._transport.receive(left)
                if not data:
                    return
                self._input.receive_data(data)
        except (DeadlineError, BrokenError):
            return

    def _conclude(self, reason: CloseReason) -> None:
        self._end(reason)
        self._publish()
        if self._on_clock:
            self._on_clock = False
            SCHEDULER.leave(self)
