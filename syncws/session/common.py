"""What a session and a raw session have in common, for their users and for their server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from secrets import token_hex
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base import BaseSession
from ..close import CloseCode, CloseReason, check_sendable
from ..options import check_timeout
from ..system.deadline import bounded
from .expiry import Expiry
from .running import SessionT, check_handler, run_handler

if TYPE_CHECKING:
    from .ending import Ending
    from .opening import Opening

__all__ = ["CommonSession", "Traffic"]


# Two threads may call expire() for the first time. Held for a few instructions.
_MAKING_EXPIRY = Lock()


class Traffic(NamedTuple):
    """What has gone through a session, or several. Bytes are those of the
    connection, frames' headers and TLS's plaintext included."""

    messages_received: int = 0
    messages_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    def plus(self, other: Traffic) -> Traffic:
        return Traffic(*(mine + others for mine, others in zip(self, other, strict=True)))


class CommonSession(BaseSession):
    """A session's end and its handler. Names with an underscore are for syncws itself."""

    #: A short text that no other session of this process is likely to have. It stands in each log
    #: line about the session, and under ``syncws.session_id`` in ``environ``, for access logs.
    id: str

    _ending: Ending

    def __init__(self, opening: Opening) -> None:
        self.environ = opening.environ
        self.subprotocol = opening.subprotocol
        self.id = token_hex(4)
        self.environ["syncws.session_id"] = self.id
        # Made when it is first needed.
        self._expiry: Expiry | None = None

    # Handlers

    def run(self: SessionT, handler: Callable[[SessionT], Any]) -> None:
        """Run ``handler(session)`` in this thread; whatever it does, the session is
        over afterwards.

        When it returns the session is closed with 1000, a raw one only ended.
        When it raises, that is logged once, and the session is closed with
        1011; only ``SystemExit`` and ``KeyboardInterrupt`` are raised on. The
        session's own ``ConnectionClosed`` is a normal way out, another
        session's is not.

        Raises ``TypeError`` for a handler that is ``async`` or a generator.
        """
        check_handler(handler)
        run_handler(self, handler)

    # The end

    def terminate(self) -> None:
        """End the connection now, without a closing handshake."""
        self._ending.finish(CloseReason(CloseCode.ABNORMAL_CLOSURE, "terminated", "local"))

    @property
    def close_reason(self) -> Future[CloseReason]:
        """How the session ended, once it has: ``.done()``, ``.result(timeout)``,
        ``.add_done_callback()``."""
        return self._ending.closed

    def wait_closed(self, timeout: float | None = None) -> CloseReason:
        """Wait for the session to end; raises ``TimeoutError`` after ``timeout`` seconds."""
        timeout = check_timeout("timeout", timeout)
        try:
            return self._ending.closed.result(None if timeout is None else bounded(timeout))
        except FutureTimeoutError:  # not the built-in one before Python 3.11
            raise TimeoutError(f"the session has not ended within {timeout} s") from None

    def expire(
        self,
        seconds: float | None,
        code: int = CloseCode.POLICY_VIOLATION,
        reason: str = "expired",
    ) -> None:
        """Close the session ``seconds`` from now, with ``code`` and ``reason``.

        A later call moves that moment, and None takes it back. It costs no thread. The closing
        handshake takes ``close_timeout`` at most, whatever the handler does. Does nothing once the
        session has ended.

        Raises ``TypeError`` or ``ValueError`` for a time that is not a number of seconds, and for
        a code or reason that can not be sent. Any thread may call it.
        """
        check_sendable(code, reason)
        seconds = check_timeout("seconds", seconds)
        with _MAKING_EXPIRY:
            expiry = self._expiry
            if expiry is None:
                if seconds is None:
                    return
                expiry = self._expiry = Expiry(self._start_closing)
                self.close_reason.add_done_callback(lambda _: expiry.end())
        expiry.set(seconds, CloseReason(code, reason, "local"))

    # About it

    @property
    def remote_address(self) -> tuple[str, int]:
        """The peer's host and port, from the environ: behind a proxy, as far
        as the framework's proxy support has put them right. Port 0 is unknown."""
        port = str(self.environ.get("REMOTE_PORT", ""))
        return self.environ.get("REMOTE_ADDR", ""), int(port) if port.isdigit() else 0

    def __repr__(self) -> str:
        reason = self._ending.reason
        state = "open" if reason is None else str(reason)
        host, port = self.remote_address
        path = self.environ.get("PATH_INFO", "")
        return f"<{type(self).__name__} {self.id} {path!r} with {host}:{port}: {state}>"

    # For syncws itself: the server, the client, the hub

    @property
    def _reason(self) -> CloseReason | None:
        """How the session ends, or has ended; None before."""
        return self._ending.reason

    def _leave_to_parent(self) -> None:
        """In the child of a fork: the session has ended here, and goes on in the parent."""
        self._ending.leave_to_parent()

    @abstractmethod
    def _prepare(self) -> None:
        """Make ready, before the 101 is sent.

        Raises ``RuntimeError`` when the system has no thread left.
        """

    @abstractmethod
    def _opened(self) -> None:
        """The 101 has been sent."""

    @abstractmethod
    def _traffic(self) -> Traffic:
        """What has gone through the session so far."""

    @abstractmethod
    def _start_closing(self, reason: CloseReason) -> None:
        """Send a Close and return at once; the session's deadline ends the rest."""

    @abstractmethod
    def _end(self, reason: CloseReason) -> None:
        """End the session, within ``close_timeout``, for ``reason`` if it has none yet."""

    @abstractmethod
    def _conclude(self, reason: CloseReason) -> None:
        """As ``_end()``; when this returns, nothing of syncws uses the socket any more."""
