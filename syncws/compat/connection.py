"""What ``Server`` and ``Client`` have in common: simple-websocket's calls on a session."""

from __future__ import annotations

import sys
import threading
from time import monotonic
from typing import Any

from wsproto.frame_protocol import CloseReason as WsprotoCode

from ..close import MAX_REASON_BYTES, NEVER_SENT, CloseReason, check_sendable
from ..errors import ConnectionClosed as SessionClosed
from ..options import check_timeout
from ..session.session import Session
from ..system.deadline import bounded
from .errors import ConnectionClosed

__all__ = ["PING_INTERVAL", "Base", "session_options"]

#: Seconds between pings unless the program says otherwise. simple-websocket sends none.
PING_INTERVAL = 20.0


def session_options(
    ping_interval: float | None, max_message_size: int | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Translate simple-websocket's options. A size of None or 0 is no limit there."""
    return {
        "ping_interval": ping_interval or None,
        "max_message_size": max_message_size or sys.maxsize,
        **options,
    }


class Base:
    """A WebSocket connection with simple-websocket's interface.

    Any thread may call its methods, and several threads may wait in ``receive()``.
    """

    is_server = False

    _session: Session

    def _adopt(self, session: Session, receive_bytes: int, max_message_size: int | None) -> None:
        self._session = session
        #: Accepted for simple-websocket's sake, and not used.
        self.receive_bytes = receive_bytes
        #: Bytes of the largest message, or None for no limit.
        self.max_message_size = max_message_size
        #: The subprotocol that was agreed on, or None.
        self.subprotocol = session.subprotocol
        # Held by the one thread that is in the session's receive(); the others wait for it.
        self._receiving = threading.Lock()

    @property
    def connected(self) -> bool:
        """Whether messages can be sent."""
        return self._session._reason is None

    @property
    def ping_interval(self) -> float | None:
        """Seconds between pings, or None for no pings. Can be set at any time."""
        return self._session.ping_interval

    @ping_interval.setter
    def ping_interval(self, seconds: float | None) -> None:
        self._session.ping_interval = seconds

    @property
    def close_reason(self) -> int:
        """The close code; 1005 before the end, and if there was no Close frame."""
        reason = self._session._reason
        code = 1005 if reason is None or reason.code == 1006 else reason.code
        try:
            return WsprotoCode(code)
        except ValueError:
            return code

    @property
    def close_message(self) -> str | None:
        """The text of the Close frame; None before the end, and if there was no Close frame."""
        reason = self._session._reason
        if reason is None or reason.code == 1006:
            return None
        # A peer that gives no text has given an empty one.
        return reason.reason if reason.cause == "peer" else reason.reason or None

    def send(self, data: Any) -> None:
        """Send ``bytes`` as a binary message, and ``str(data)`` of all else as text.

        Raises ``ConnectionClosed`` when the connection has ended, and when the peer does not
        read for the session's ``timeout``.
        """
        if not self.connected:
            raise self._closed()
        try:
            self._session.send(data if isinstance(data, bytes) else str(data))
        except SessionClosed as exc:
            raise self._closed() from exc

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Wait for the next message, ``timeout`` seconds at most, and return it.

        Returns None if none arrives in time; 0 does not wait, None waits for ever. Raises
        ``ConnectionClosed`` after the end, when all messages have been received.
        """
        timeout = check_timeout("timeout", timeout)
        deadline = None if timeout is None else monotonic() + timeout
        wait = -1 if timeout is None else bounded(timeout)
        if not self._receiving.acquire(timeout=wait):
            return None
        try:
            return self._session.receive(
                None if deadline is None else max(0.0, deadline - monotonic())
            )
        except SessionClosed as exc:
            raise self._closed() from exc
        except TimeoutError:
            return None
        finally:
            self._receiving.release()

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        """Send a Close with the code ``reason`` (None: 1000) and the text ``message``, and
        do not wait for the peer's.

        The codes 1005, 1006 and 1015 of an end without a code become 1000, and the text is cut
        to 123 bytes, so ``close_reason`` and ``close_message`` of another connection can be
        given. Raises ``ConnectionClosed`` if the connection has ended, and ``ValueError`` for
        another code that can not be sent (RFC 6455 section 7.4).
        """
        if not self.connected:
            raise self._closed()
        code, text = int(reason or 1000), message or ""
        if code in NEVER_SENT:
            code = 1000
        if isinstance(text, str):
            text = text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        check_sendable(code, text)
        self._session._start_closing(CloseReason(code, text, "local"))

    def _closed(self) -> ConnectionClosed:
        closed = ConnectionClosed(self.close_reason, self.close_message)
        closed.session = self._session  # type: ignore[attr-defined]  # for the request's end
        return closed
