"""A reader that limits how many messages a peer may send: the option ``rate``. Sessions without
this option use a plain ``Reader``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from ..close import CloseCode, CloseReason
from ..errors import ConcurrencyError
from ..limits import Bucket
from .reader import SECOND_READER, Reader

if TYPE_CHECKING:
    from ..limits import Rate
    from ..protocol.events import Part
    from ..protocol.messages import Protocol
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending
    from .pings import Pings
    from .writer import Writer

__all__ = ["LimitedReader"]

T = TypeVar("T")


class LimitedReader(Reader):
    """Counts messages when the handler receives them.

    While a handler waits because of the limit, it does not read. The ping thread then reads in its
    place: it answers pings, notices the end, and stops reading when the queue is full. From then on
    the keepalive looks whether the peer is gone. Otherwise a peer that fills the system's buffers
    and goes would keep its session for as long as the limit takes to receive all of that.
    """

    __slots__ = ("_bucket", "_counting", "_exceeded", "_rate")

    def __init__(
        self,
        rate: Rate,
        protocol: Protocol,
        transport: Transport,
        writer: Writer,
        ending: Ending,
        pings: Pings,
        wakeup: Wakeup,
        close_timeout: float,
    ) -> None:
        super().__init__(protocol, transport, writer, ending, pings, wakeup, close_timeout)
        self._rate = rate
        # Guarded by _counting. The thread in receive() holds that lock, and no thread waits for
        # it: a second reader gets a ConcurrencyError.
        self._bucket = Bucket(rate, monotonic())
        self._counting = threading.Lock()
        self._exceeded = False

    def receive(self, timeout: float | None) -> str | bytes:
        return self._count(super().receive, timeout)

    def begin_stream(self, stream: object, timeout: float | None) -> str | bytes | Part:
        begin = super().begin_stream
        return self._count(lambda timeout: begin(stream, timeout), timeout)

    def _count(self, receive: Callable[[float | None], T], timeout: float | None) -> T:
        if not self._counting.acquire(blocking=False):
            raise ConcurrencyError(SECOND_READER)
        try:
            if self._rate.over == "wait":
                message = receive(self._wait(timeout))
            else:
                message = self._receive_and_check(receive, timeout)
            self._bucket.take()
            return message
        finally:
            self._counting.release()

    def _wait(self, timeout: float | None) -> float | None:
        """Wait until a message may be received. Returns how many seconds of ``timeout`` are
        left."""
        deadline = None if timeout is None else monotonic() + timeout
        limited = False
        while True:
            now = monotonic()
            self._bucket.fill(now)
            self._bucket.cap()
            wait = self._bucket.wait()
            left = None if deadline is None else max(0.0, deadline - now)
            # After the end no more messages arrive, so those that have arrived are delivered
            # without waiting.
            if wait == 0.0 or self._ending.reason is not None:
                self.limited = limited
                return left
            limited = self.limited = True
            if left is not None and left < wait:
                self._sleep(left)
                raise TimeoutError(f"no message within {timeout} s")
            self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        """Wait ``seconds``, or until the session has ended."""
        with contextlib.suppress(FutureTimeoutError):
            self._ending.closed.result(min(seconds, threading.TIMEOUT_MAX))

    def _receive_and_check(self, receive: Callable[[float | None], T], timeout: float | None) -> T:
        if self._exceeded:
            raise self._ending.exception()
        # Messages that arrived while the handler did not receive may have arrived evenly. All of
        # that time counts, until every message that has arrived is received.
        self._bucket.fill(monotonic())
        try:
            message = receive(0.0)
        except TimeoutError:
            self._bucket.cap()
            if timeout == 0.0:
                raise
            message = receive(timeout)
            self._bucket.fill(monotonic())
            self._bucket.cap()
        if self._bucket.wait() > 0.0 and self._ending.reason is None:
            self._exceeded = True
            text = f"more than {self._rate.messages:g} messages in {self._rate.per:g} s"
            reason = CloseReason(CloseCode.POLICY_VIOLATION, text, "local")
            self._ending.begin(reason, monotonic() + self._close_timeout)
            self._writer.close()
            raise self._ending.exception()
        return message
