"""The exceptions of syncws, and nothing else.

The message of an exception says what was wrong, what was expected and what to do about it. A
timeout raises Python's own ``TimeoutError``: nothing is lost and the call can be repeated.
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

    ``status`` is the HTTP status of its answer, or None if there was no HTTP answer. ``headers``
    are the answer's headers, as pairs. ``body`` is its body, at most 64 KiB of it. A redirect is
    a refusal too, and so is a 101 that breaks the rules of RFC 6455 section 4.1.
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
        # By default, an exception is copied and pickled by its ``args``: here, the message alone.
        return type(self), (self.status, self.headers, self.body, str(self))


class HubError(SyncwsError):
    """The hub's bus could not be reached, or refused, or the hub is closed.

    After a failed ``send()`` or ``disconnect()``, its text says that only the members in this
    process were reached."""


class ConcurrencyError(SyncwsError):
    """Two threads called ``receive()``, or ``receive_frame()``, on one session at the same time.

    Each message goes to one reader, so a session has one reader at a time.
    """


class ConnectionClosed(SyncwsError):
    """The session has ended, or is ending, so the call cannot be done.

    ``reason`` says how it ended (:class:`~syncws.CloseReason`), and ``session`` is the session
    that ended: in a handler that works with several sessions, only the end of its *own* session
    is a normal way out.

    A copy of this exception has the same session. A session cannot leave its process, so
    ``session`` is None after pickling. It is None, too, if a finalizer uses an ended session that
    the garbage collector is taking away. Finalizers are ``__del__()``, and what a generator does
    in ``finally``.
    """

    reason: CloseReason
    session: BaseSession

    def __init__(self, reason: CloseReason, session: BaseSession, note: str = "") -> None:
        super().__init__(f"{reason}{note}")
        self.reason = reason
        self.session = session

    def __copy__(self) -> ConnectionClosed:
        return _rebuilt(type(self), self.args, self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> ConnectionClosed:
        return _rebuilt(type(self), self.args, self.__dict__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, {**self.__dict__, "session": None})


class ConnectionClosedOK(ConnectionClosed):
    """The session ended well: code 1000, 1001, or a Close without a code."""


class ConnectionClosedError(ConnectionClosed):
    """The session ended in any other way; ``reason.cause`` says how."""


class SendTimeoutError(ConnectionClosedError, TimeoutError):
    """The peer stopped reading: a message could not be written in time.

    A part of the message may have been sent, and the peer cannot understand what would follow it.
    So the session is terminated (``reason.cause == "send_timeout"``). This exception is a
    ``TimeoutError`` too, so ``except TimeoutError`` catches it.
    """


def _rebuilt(
    kind: type[ConnectionClosed], args: tuple[Any, ...], state: dict[str, Any]
) -> ConnectionClosed:
    """Another exception of the same kind, made without its ``__init__()``: a subclass may take
    other arguments."""
    rebuilt = kind.__new__(kind)
    rebuilt.args = args
    rebuilt.__dict__.update(state)
    return rebuilt
