"""The class that ``Session`` and ``RawSession`` share: methods for users, and for syncws itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from os import urandom
from threading import RLock
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


# Guards the first expire() of a session, which two threads may call at once. Held for a few
# instructions. Reentrant, since a signal handler may call expire() in the thread that it has
# interrupted here.
_MAKING_EXPIRY = RLock()


class Traffic(NamedTuple):
    """The messages and bytes of one session or of several. The bytes include the headers of
    frames. With TLS they are counted before encryption and after decryption."""

    messages_received: int = 0
    messages_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    def plus(self, other: Traffic) -> Traffic:
        return Traffic(
            self.messages_received + other.messages_received,
            self.messages_sent + other.messages_sent,
            self.bytes_received + other.bytes_received,
            self.bytes_sent + other.bytes_sent,
        )


class CommonSession(BaseSession):
    """A session's end and its handler. Names with an underscore are for syncws itself."""

    #: A short text that no other session of this process is likely to have. It stands in each log
    #: line about the session, and under ``syncws.session_id`` in ``environ``, for access logs.
    id: str

    _ending: Ending

    def __init__(self, opening: Opening) -> None:
        self.environ = opening.environ
        self.subprotocol = opening.subprotocol
        self.id = urandom(4).hex()
        self.environ["syncws.session_id"] = self.id
        # Made by the first expire(). Most sessions never need it.
        self._expiry: Expiry | None = None

    # Handlers

    def run(self: SessionT, handler: Callable[[SessionT], Any]) -> None:
        """Run ``handler(session)`` in this thread. The session ends with the handler.

        When the handler returns, the session is closed with 1000; a raw session ends
        without a Close. When the handler raises, the exception is logged once and the
        session is closed with 1011. Only ``SystemExit`` and ``KeyboardInterrupt`` are
        raised again. If the handler raises the ``ConnectionClosed`` of this session,
        that counts as a return; the ``ConnectionClosed`` of another session is an error.

        Raises ``TypeError`` if the handler is ``async`` or a generator.
        """
        check_handler(handler)
        run_handler(self, handler)

    # The end

    def terminate(self) -> None:
        """End the connection now, without a closing handshake."""
        self._ending.finish(CloseReason(CloseCode.ABNORMAL_CLOSURE, "terminated", "local"))

    @property
    def close_reason(self) -> Future[CloseReason]:
        """A future for the reason of the session's end. It is resolved when the session has ended.
        Use ``.done()``, ``.result(timeout)`` and ``.add_done_callback()``. You can not cancel
        it."""
        return self._ending.closed

    def wait_closed(self, timeout: float | None = None) -> CloseReason:
        """Wait until the session has ended, and return the reason.

        Raises ``TimeoutError`` after ``timeout`` seconds; None waits without a limit. Any thread
        may call it.
        """
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

        A later call replaces that moment, and ``seconds=None`` removes it. All sessions share one
        thread for this. The closing handshake takes at most ``close_timeout`` seconds, even if the
        handler is busy. After the end of the session, this method does nothing.

        Raises ``TypeError`` or ``ValueError`` if ``seconds`` is not a number of seconds, and if
        the code or the reason can not be sent. Raises ``RuntimeError`` if the system can not start
        that thread. Any thread may call it.
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
        """The peer's host and port, as the WSGI environ has them. Behind a proxy they are the
        proxy's, unless the framework's proxy support replaces them. Port 0 means unknown."""
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
        """Why the session is ending or has ended; None while it is open."""
        return self._ending.reason

    def _leave_to_parent(self) -> None:
        """Called in the child of a fork: end the session here. It goes on in the parent."""
        self._ending.leave_to_parent()

    @abstractmethod
    def _prepare(self) -> None:
        """Prepare the session before the 101 is sent.

        Raises ``RuntimeError`` if the system can not start another thread.
        """

    @abstractmethod
    def _opened(self) -> None:
        """Called when the 101 has been sent."""

    @abstractmethod
    def _traffic(self) -> Traffic:
        """The messages and bytes of the session so far."""

    @abstractmethod
    def _start_closing(self, reason: CloseReason) -> None:
        """Send a Close and return without waiting. The session ends by its deadline, even if
        nobody waits for it."""

    @abstractmethod
    def _end(self, reason: CloseReason) -> None:
        """End the session within ``close_timeout`` seconds. ``reason`` applies only if the
        session has no reason yet."""

    @abstractmethod
    def _conclude(self, reason: CloseReason) -> None:
        """Do the same as ``_end()``. After this returns, syncws no longer uses the socket."""
