"""Sending: whole messages, one after the other, each with a deadline.

Every thread that sends waits for its turn and then for the peer. A timeout that the user gave is
for the whole call. The session's own ``timeout`` is for a peer that reads nothing for so long, so
it begins anew whenever the peer reads (``renewed``).

``_message_lock`` is held while one fragmented message is sent; other messages wait for it. It is
taken before ``write_lock`` (see ``output.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from ..close import CloseCode, CloseReason
from ..protocol.outbound import MessageOpenError
from ..system.deadline import Deadline
from ..system.patience import Patience
from .output import Output

if TYPE_CHECKING:
    from ..protocol.messages import Protocol
    from ..protocol.outbound import Binary, Data
    from ..protocol.prepared import PreparedMessage
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending

__all__ = ["Writer"]

Payload = TypeVar("Payload")


def _check_part(part: Any) -> None:
    if not isinstance(part, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a message consists of str or of bytes, not of {type(part).__name__}")


class Writer(Output):
    """The sending half of a session. Every method may be called from any thread.

    ``timeout`` is in seconds everywhere, and ``renewed`` says that it begins anew whenever the
    peer reads.
    """

    __slots__ = ("_fragmenting_thread", "_message_lock")

    def __init__(
        self, protocol: Protocol, transport: Transport, ending: Ending, wakeup: Wakeup
    ) -> None:
        super().__init__(protocol, transport, ending, wakeup)
        # See the top of the file.
        self._message_lock = threading.Lock()
        # The thread that sends a fragmented message, or None. Written under _message_lock.
        self._fragmenting_thread: threading.Thread | None = None

    def send(
        self,
        data: Any,
        timeout: float,
        renewed: bool,
        encode: Callable[[Any], tuple[bytes, Binary]] | None = None,
    ) -> None:
        """Write one message, or what ``encode()`` makes of ``data``.

        Raises ``ConnectionClosed`` once the session is ending; ``TimeoutError`` if other threads
        kept the connection busy for too long, and nothing was written; ``SendTimeoutError`` if
        the peer did not read in time, and the session was terminated; ``BrokenError`` if the
        connection broke.
        """
        if not self.write_lock.acquire(False):
            timeout = self._acquire(self.write_lock, timeout, renewed)
        self._writing_thread = get_ident()
        try:
            if self._ending.reason is not None:
                raise self._ending.exception()
            head = b""
            try:
                while self._waiting and (frame := self._next_waiting()):
                    # In order, and encoded in that order too.
                    self._backlog += frame
                if encode is None:
                    head, payload = self._protocol.message(data)
                else:
                    head, payload = encode(data)
                if self._backlog:
                    head = self._backlog + head
                    self._backlog = b""
                self._transport.send(head, payload, timeout, renewed=renewed)
            except BaseException as exc:
                # A message that can not be encoded leaves no trace. One that was encoded and is
                # not written would: the next one is encoded as if the peer had it.
                if head or not isinstance(exc, Exception):
                    self._sending_failed(exc)
                raise
            return
        except MessageOpenError:
            if encode is not None:
                raise
        finally:
            self._writing_thread = 0
            self.write_lock.release()
            # As _control_waits(), for the usual case that nothing does.
            if (
                self._pong or self._backlog or self._close_wanted or self._waiting
            ) and self._control_waits():
                self.flush_control()
        self._with_message_lock(self._protocol.message, data, timeout, renewed)

    def send_prepared(self, message: PreparedMessage, timeout: float, *, renewed: bool) -> None:
        """As ``send()``, for a message that has been encoded for many sessions."""
        self._with_message_lock(self._protocol.prepared, message, timeout, renewed)

    def _with_message_lock(
        self,
        encode: Callable[[Payload], tuple[bytes, Binary]],
        payload: Payload,
        timeout: float,
        renewed: bool,
    ) -> None:
        timeout = self._acquire_message(timeout, renewed)
        try:
            self.send(payload, timeout, renewed, encode)
        finally:
            self._message_lock.release()

    def send_parts(
        self, parts: Iterable[Data], timeout: float, close_timeout: float, *, renewed: bool
    ) -> None:
        """Write one message in fragments, each as soon as ``parts`` gives it.

        Control frames go out between the fragments; other messages wait. Raises as ``send()``
        does, what ``parts`` raises, ``TypeError`` for a part that can not be sent, and
        ``ValueError`` when there is no part at all. A message that has begun and can not be
        completed ends the session, with 1011.
        """
        deadline = Deadline(timeout)
        self._acquire_message(timeout, renewed)
        self._fragmenting_thread = threading.current_thread()

        def write(encode: Callable[[Data], tuple[bytes, Binary]], part: Data) -> None:
            self.send(part, timeout if renewed else deadline.left, renewed, encode)

        try:
            empty: Data | None = None
            for part in parts:
                _check_part(part)
                if empty is None:
                    empty = "" if isinstance(part, str) else b""
                write(self._encode_part, part)
            if empty is None:
                raise ValueError("there is no message in an iterable that gives nothing")
            write(self._encode_end, empty)
        finally:
            if self._protocol.fragmenting:
                broken_off = CloseReason(
                    CloseCode.INTERNAL_ERROR, "a message was broken off", "error"
                )
                self._ending.begin(broken_off, monotonic() + close_timeout)
                self.close()
            self._fragmenting_thread = None
            self._message_lock.release()

    def _encode_part(self, part: Data) -> tuple[bytes, Binary]:
        return self._fragment(part, finished=False), b""

    def _encode_end(self, empty: Data) -> tuple[bytes, Binary]:
        return self._fragment(empty, finished=True), b""

    def _fragment(self, data: Data, *, finished: bool) -> bytes:
        assert self.write_lock.locked()
        # Before the protocol knows: if a signal handler raises in between, offer() must not take
        # the message for complete. Too much care does no harm: flush_control() asks the protocol.
        self._fragmenting = True
        fragment = self._protocol.fragment(data, finished=finished)
        self._fragmenting = self._protocol.fragmenting
        return fragment

    def flush(self, timeout: float, *, renewed: bool) -> None:
        """Wait until everything that was to be sent before is written.

        Raises ``TimeoutError`` when the time is over. Does nothing once the connection has
        ended. Holds no lock while it waits for the peer, so other threads may send.
        """
        self._check_not_interrupted()
        patience = Patience(self._transport, timeout, renewed=renewed)
        late = TimeoutError(f"not everything was written within {timeout:g} s; nothing is lost")
        # A message in fragments that has begun before is waited for, too.
        if self._fragmenting_thread is threading.current_thread():
            raise _waits_for_itself()
        while not self._message_lock.acquire(timeout=patience.left):
            if patience.is_over():
                raise late
        self._message_lock.release()
        while not self._ending.finished:
            if self.write_lock.acquire(timeout=patience.left):
                try:
                    if self._write_control():
                        return
                finally:
                    self.write_lock.release()
                self.flush_control()  # if this call gives up, the ping thread goes on
                self._transport.wait(write=True, timeout=patience.left)
            if patience.is_over():
                raise late

    def ping(self, payload: bytes, timeout: float, *, renewed: bool) -> None:
        """Write a ping; raises as ``send()`` does."""
        self.send(payload, timeout, renewed, lambda payload: (self._protocol.ping(payload), b""))

    def _acquire_message(self, timeout: float, renewed: bool) -> float:
        """Wait for the end of a message in fragments. Returns the seconds left."""
        if self._fragmenting_thread is threading.current_thread():
            raise _waits_for_itself()
        return self._acquire(self._message_lock, timeout, renewed)

    def _check_not_interrupted(self) -> None:
        if self.is_written_by_this_thread():
            raise RuntimeError(
                "this thread is sending already, and would wait for itself: a signal handler can "
                "close() or terminate() the session, but not send, ping or flush"
            )

    def _acquire(self, lock: threading.Lock, timeout: float, renewed: bool) -> float:
        """Wait for other threads' messages to be written. Returns the seconds that are left to
        wait for the peer."""
        self._check_not_interrupted()
        patience = Patience(self._transport, timeout, renewed=renewed)
        while not lock.acquire(timeout=patience.left):
            if patience.is_over():
                raise TimeoutError(
                    f"other threads were writing for {timeout:g} s; nothing was sent, try again"
                )
        return timeout if renewed else patience.left


def _waits_for_itself() -> RuntimeError:
    return RuntimeError(
        "this thread is sending a message in fragments, and would wait for itself: what "
        "makes the fragments can not send or flush; yield what belongs to the message"
    )
