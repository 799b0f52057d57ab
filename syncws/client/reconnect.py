"""``reconnect()``: one session after the other, with waits in between that spare the server.

The rules: a failure that may pass is waited out. A failure that will not pass is raised.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING

from ..close import CloseCode, CloseReason
from ..errors import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeError,
)
from ..options import check_seconds
from ..protocol.headers import Headers
from ..system.latch import Latch
from .attempt import Attempt
from .opening import ConnectOptions, open_session
from .session import ClientSession

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Unpack

__all__ = ["Backoff", "Reconnecting", "reconnect"]

#: Seconds that a ``Retry-After`` is honoured for at most. A server could ask for years.
MAX_RETRY_AFTER = 3600.0

#: HTTP's 429 Too Many Requests (RFC 6585): the one status below 500 that passes.
_TOO_MANY_REQUESTS = 429

#: Registered with IANA for the close code of "unauthorized" and of "forbidden".
_UNAUTHORIZED, _FORBIDDEN = 3000, 3003


@dataclass(frozen=True)
class Backoff:
    """How long :func:`reconnect` waits between sessions, in seconds.

    Each wait is drawn at random, so that clients do not come back all at once: from 0 to
    ``first`` before the first attempt, from 0 to twice as much before each further one, and
    never more than ``most``. Raises ``ValueError`` or ``TypeError`` for invalid times.
    """

    #: Seconds of the first wait at most.
    first: float = 0.5
    #: Seconds of every wait at most. A server that is down is asked once or twice a minute.
    most: float = 60.0

    def __post_init__(self) -> None:
        check_seconds("first", self.first)
        check_seconds("most", self.most)
        if self.most < self.first:
            raise ValueError(f"most ({self.most!r}) must not be less than first ({self.first!r})")

    def limit(self, failures: int) -> float:
        """Return the longest wait after so many failures in a row, the first one being 0."""
        # 2.0 ** 1024 is too large for a float.
        return float(min(self.most, self.first * 2.0 ** min(failures, 64)))


class _Session(ClientSession):
    """A session whose own end ends its ``with`` block without an error."""

    def __exit__(  # type: ignore[override]  # only sessions of reconnect() swallow an exception
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        super().__exit__(kind, error, traceback)
        return isinstance(error, ConnectionClosed) and error.session is self


class Reconnecting(Iterator[ClientSession]):
    """The iterator that :func:`reconnect` returns. Use it in one thread; ``close()`` may be
    called from any."""

    def __init__(
        self,
        url: str,
        headers: Headers | Callable[[], Headers | None] | None,
        backoff: Backoff,
        on_wait: Callable[[float, Exception], object] | None,
        fail_first: bool,
        options: ConnectOptions,
    ) -> None:
        self._url = url
        self._headers = headers
        self._backoff = backoff
        self._on_wait = on_wait
        self._fail_first = fail_first
        self._options = options
        # Guards the session, the attempt, and whether the iteration is over. Not held over I/O.
        # Reentrant, because a signal handler may call close() in the thread that holds it.
        self._lock = threading.RLock()
        self._over = Latch()
        self._session: ClientSession | None = None
        self._attempt: Attempt | None = None
        self._opened_at = 0.0
        self._failures = 0
        self._last_wait = 0.0

    def __iter__(self) -> Reconnecting:
        return self

    def __next__(self) -> ClientSession:
        """Return the next session, after a wait if it is not the first."""
        if self._session is not None:
            failure = self._end_session(self._session)
            if not self._over.is_set():
                self._wait(failure, 0.0)
        while not self._over.is_set():
            headers = self._headers() if callable(self._headers) else self._headers
            try:
                session = open_session(
                    _Session, self._url, headers=headers, begin=self._begin, **self._options
                )
            except (HandshakeError, OSError) as exc:
                if self._over.is_set():
                    break
                if self._fail_first or not _passes(exc):
                    raise
                self._wait(exc, _retry_after(exc))
                continue
            self._fail_first = False
            self._opened_at = monotonic()
            with self._lock:
                if not self._over.is_set():
                    self._session = session
                    return session
            session.close()
        raise StopIteration

    def close(self) -> None:
        """End the iteration: a wait or an attempt to connect ends now, an open session is closed
        with 1000, and no other session is opened. May be called from any thread, in a signal
        handler too, and more than once."""
        with self._lock:
            self._over.set()
            session, attempt = self._session, self._attempt
        if attempt is not None:
            attempt.cancel()
        if session is not None:
            session.close()

    def _begin(self, seconds: float) -> Attempt:
        """Make an attempt that ``close()`` can cancel."""
        attempt = Attempt(seconds)
        with self._lock:
            self._attempt = attempt
        if self._over.is_set():
            attempt.cancel()
        return attempt

    def _end_session(self, session: ClientSession) -> ConnectionClosed:
        """End the session before. Raise its end if the next session would end the same way."""
        session.close()
        reason = session.wait_closed(session.close_timeout)
        with self._lock:
            self._session = None
        if monotonic() - self._opened_at > self._last_wait:
            self._failures = 0  # it was a session worth having
        kind = ConnectionClosedOK if reason.ok else ConnectionClosedError
        failure = kind(reason, session)
        if reason.cause == "peer" and _is_final(reason):
            raise failure
        return failure

    def _wait(self, failure: Exception, at_least: float) -> None:
        limit = self._backoff.limit(self._failures)
        self._failures += 1
        self._last_wait = limit
        seconds = at_least + random.uniform(0, limit)
        if self._on_wait is not None:
            self._on_wait(seconds, failure)
        self._over.wait(seconds)


def reconnect(
    url: str,
    *,
    headers: Headers | Callable[[], Headers | None] | None = None,
    backoff: Backoff | None = None,
    on_wait: Callable[[float, Exception], object] | None = None,
    fail_first: bool = False,
    **options: Unpack[ConnectOptions],
) -> Reconnecting:
    """Open a session with a server, and another one whenever it has ended::

        for session in syncws.reconnect("wss://example.com/prices", headers=fresh_token):
            with session:
                session.send_json({"subscribe": "prices"})
                for message in session:
                    print(message)

    The session's own ``ConnectionClosed`` ends the ``with`` block, not the loop. Every other
    exception closes the session with 1011 and leaves the loop. ``break`` ends the loop;
    ``close()`` of the returned iterator does so from any thread.

    ``url`` and ``options`` are those of :func:`connect`. ``headers`` may be a function that
    returns them; it is called before each attempt.

    ``backoff``: how long to wait, see :class:`Backoff`. A ``Retry-After`` of the server is
    added, up to an hour. After a session that lasted longer than the wait before it, the waits
    begin small again. ``on_wait(seconds, exception)`` is called before each wait.

    After a failure that may pass, the loop waits and tries again: no connection (refused, reset,
    no address, time-out), the status 429 or one from 500 on, and the end of a session.

    The loop raises a failure that will not pass: every other ``HandshakeError`` with a status, a
    certificate that is not trusted, ``PermissionError``, invalid arguments, and a
    ``ConnectionClosed`` if the server closed with 1008, 1010, 3000 (unauthorized), 3003
    (forbidden), or 4400 to 4499 except 4408 and 4429.

    With ``fail_first=True``, the loop raises every failure until the first session has opened.
    """
    chosen = Backoff() if backoff is None else backoff
    if not isinstance(chosen, Backoff):
        raise TypeError(f"backoff is a syncws.Backoff, not {backoff!r}")
    if on_wait is not None and not callable(on_wait):
        raise TypeError(f"on_wait is a function of the seconds and the failure, not {on_wait!r}")
    if options.get("sock") is not None:
        raise ValueError("reconnect() can not use one sock again and again: use connect()")
    return Reconnecting(url, headers, chosen, on_wait, fail_first, options)


def _passes(failure: HandshakeError | OSError) -> bool:
    """Whether a failure to connect may pass."""
    if isinstance(failure, HandshakeError):
        status = failure.status
        # Without a status the connection broke off, or the answer was not HTTP: so it is when a
        # server is just being restarted.
        return status is None or status == _TOO_MANY_REQUESTS or status >= 500
    return not isinstance(failure, ssl.SSLCertVerificationError | PermissionError)


def _is_final(reason: CloseReason) -> bool:
    """Whether the server's close code says that the next session would end the same way."""
    if 4400 <= reason.code <= 4499:  # as the HTTP status of a refusal
        return reason.code not in (4408, 4429)
    return reason.code in (
        CloseCode.POLICY_VIOLATION,
        CloseCode.MANDATORY_EXTENSION,
        _UNAUTHORIZED,
        _FORBIDDEN,
    )


def _retry_after(failure: Exception) -> float:
    """The seconds of a ``Retry-After`` (RFC 9110 section 10.2.3); 0 without one."""
    if not isinstance(failure, HandshakeError):
        return 0.0
    value = next((v for n, v in failure.headers if n.lower() == "retry-after"), "").strip()
    seconds = 0.0
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    else:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time()
    return min(max(0.0, seconds), MAX_RETRY_AFTER)
