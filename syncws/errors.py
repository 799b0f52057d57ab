"""The exceptions of syncws, and nothing else.

An exception says what was wrong, what was expected and what to do about it.
``TimeoutError`` is Python's own: nothing was lost and the call can be repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import BaseSession
    from .close import CloseReason

__all__ = [
    "ConcurrencyError",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "HandshakeError",
    "HubError",
    "SendTimeoutError",
    "SyncwsError",
]


class SyncwsError(Exception):
    """The base of every exception that syncws itself defines."""


class HandshakeError(SyncwsError):
    """The server has not accepted the session that ``connect()`` asked for.

    ``status`` is the HTTP status of its answer, None when there was no answer
    that is HTTP; ``headers`` its headers, as pairs; ``body`` its body, of which
    64 KiB are kept. A redirect is a refusal as well, and so is a 101 that is
    not what RFC 6455 section 4.1 wants.
    """

    status: int | None
    headers: list[tuple[str, str]]
    body: bytes

    def __init__(
        self, status: int | None, headers: list[tuple[str, str]], body: bytes, message: str
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions go from process to process pickled, and copied by their ``args``.
        return type(self), (self.status, self.headers, self.body, str(self))


class HubError(SyncwsError):
    """The hub's bus could not be reached; the message says what was done all the same."""


class ConcurrencyError(SyncwsError):
    """Two threads called ``receive()``, or ``receive_frame()``, on one session at
    the same time.

    Each message goes to one reader, so a session has one reader at a time.
    """


class ConnectionClosed(SyncwsError):
    """The session has ended, or is ending, and can not do what was asked.

    ``reason`` says how it ended (:class:`~syncws.CloseReason`) and ``session``
    which session it was: in a handler that works with several sessions, only
    the end of its *own* session is a normal way out.
    """

    reason: CloseReason
    session: BaseSession

    def __init__(self, reason: CloseReason, session: BaseSession) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.session = session


class ConnectionClosedOK(ConnectionClosed):
    """The session ended well: code 1000, 1001, or a Close without a code."""


class ConnectionClosedError(ConnectionClosed):
    """The session ended in any other way; ``reason.cause`` says in which."""


class SendTimeoutError(ConnectionClosedError, TimeoutError):
    """The peer stopped reading: a message could not be written in time.

    A message cut in the middle leaves nothing that the peer could make sense
    of, so the session is terminated (``reason.cause == "send_timeout"``). It
    is a ``TimeoutError`` too, for code that waits for that one.
    """
