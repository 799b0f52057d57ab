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
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from .close import CloseCode, CloseReason

if TYPE_CHECKING:
    from .ending import Ending
    from .protocol import Binary, Data, Protocol
    from .transport import Transport
    from .wakeup import Wakeup

__all__ = ["Writer"]

Payload = TypeVar("Payload")


class Writer:
    """The sending half of a session. Every method is for any thread."""

    def __init__(
        self, protocol: Protocol, transport: Transport, ending: Ending, wakeup: Wakeup
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._ending = ending
        self._wakeup = wakeup
        #: Held over encoding and writing; see the top of the file. The lock of
        #: ``Ending`` may be taken under it, the reader's locks never.
        self.write_lock = threading.Lock()
        # The slots: set by anybody, emptied under write_lock.
        self._pong: bytes | None = None
        self._close: tuple[int, str] | None = None
        # The rest of a control frame that the socket took only a part of:
        # goes out before anything else. Under write_lock.
        self._backlog = b""
        # Whether a control frame waits for a full socket: the ping thread
        # then waits until there is room and calls flush_control(). Written
        # under write_lock.
        self._blocked = False
        # Whether our Close has gone out whole. Written under write_lock; the
        # reader looks at it after it has noted the peer's Close, the writer
        # looks for the peer's Close after it has set this: one of them sees
        # both.
        self._close_written = False
        #: Whether the peer can no longer be written to. It may still have
        #: been heard: the end is the reader's to find.
        self.broken = False

    def send(self, data: Data, timeout: float) -> None:
        """Write one message within ``timeout`` seconds.

        Raises ``ConnectionClosed`` once the session is ending; ``TimeoutError``
        when other threads kept the connection busy all the time, and nothing
        was written; ``SendTimeoutError`` when the peer did not read, and the
        session was terminated; another ``OSError`` when the connection broke.
        """
        self._write_frame(self._protocol.message, data, timeout)

    def ping(self, payload: bytes, timeout: float) -> None:
        """Write a ping; raises what ``send()`` does."""
        self._write_frame(lambda payload: (self._protocol.ping(payload), b""), payload, timeout)

    def _write_frame(
        self, encode: Callable[[Payload], tuple[bytes, Binary]], payload: Payload, timeout: float
    ) -> None:
        if not self.write_lock.acquire(blocking=False):
            started = monotonic()
            if not self.write_lock.acquire(timeout=max(0.0, timeout)):
                raise TimeoutError(
                    f"other threads were writing for {timeout} s; nothing was sent, try again"
                )
            timeout -= monotonic() - started
        try:
            if self._ending.reason is not None:
                raise self._ending.exception()
            self._write(encode(payload), timeout)
        finally:
            self.write_lock.release()
            if self._control_waits():
                self.flush_control()

    def try_ping(self, payload: bytes) -> bool:
        """Send a ping without waiting; False when another thread is writing.

        When the socket is full the ping goes out later, or, if the peer never
        reads again, not at all.
        """
        if not self.write_lock.acquire(blocking=False):
            return False
        try:
            if self._ending.reason is None and self._write_backlog():
                self._backlog = self._protocol.ping(payload)
                self._write_backlog()
            return True
        finally:
            self.write_lock.release()
            if self._control_waits():
                self.flush_control()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, now or as soon as possible."""
        self._pong = payload
        self.flush_control()

    def close(self, code: int, reason: str) -> None:
        """Send the Close, now or as soon as possible; only the first one counts."""
        if self._close is None and not self._protocol.close_sent:
            self._close = (code, reason)
        self.flush_control()

    def settle(self) -> None:
        """The peer's Close was received: if ours is written too, that was all."""
        if self._close_written and self._protocol.close_received:
            # The server ends TCP first (RFC 6455 section 7.1.1).
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
        return self._pong is not None or self._close is not None or bool(self._backlog)

    def _write_control(self) -> bool:
        """Empty the slots; False when the socket is full. Requires write_lock."""
        assert self.write_lock.locked()
        if not self._write_backlog():
            return False
        pong, self._pong = self._pong, None
        if pong is not None and not self._protocol.close_sent:
            self._backlog = self._protocol.pong(pong)
            if not self._write_backlog():
                return False
        close, self._close = self._close, None
        if close is not None and not self._protocol.close_sent:
            self._backlog = self._protocol.close(*close)
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
        try:
            self._transport.send(head, payload, timeout)
        except TimeoutError:
            # The stream is cut inside a frame: there is no way to go on.
            self._ending.finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write timed out", "send_timeout")
            )
            raise self._ending.exception() from None
        except OSError:
            self.broken = True
            raise

    def _write_backlog(self) -> bool:
        """Write what is left of a control frame; False when the socket is full."""
        assert self.write_lock.locked()
        if self._backlog and not self.broken:
            try:
                self._backlog = self._backlog[self._transport.send_now(self._backlog) :]
            except OSError:
                self.broken = True
        if self.broken:
            self._backlog = b""
        return not self._backlog
