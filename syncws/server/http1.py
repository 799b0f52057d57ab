"""HTTP/1.1 with one peer: h11 knows the protocol, the transport moves the bytes.

Framing belongs here: heads, bodies, chunks, and whether a connection can be used again.
The meaning of a request, and WSGI, do not.

Request smuggling: h11 refuses most requests that two readers could understand differently,
and this module refuses the rest. If the end of a body or of an upgrade is in doubt, the
bytes behind it are never read as a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import h11

from ..system.deadline import Deadline
from ..system.transport import BrokenError, DeadlineError
from ..upgrade.http_times import HEAD_TIMEOUT, LINGER

if TYPE_CHECKING:
    from ..system.transport import Transport

__all__ = ["BadRequestError", "HttpConnection"]

Event: TypeAlias = h11.Request | h11.Data | h11.EndOfMessage | h11.ConnectionClosed

#: Seconds without a byte of a body, in either direction, after which the connection ends.
BODY_TIMEOUT = 20.0

#: Bytes of a body that the server reads and throws away if the application has not read
#: them. With more, a new connection is cheaper. Precedent: gunicorn.
DISCARD_UP_TO = 64 * 1024

#: Bytes written with one deadline. A large body has many: it may take long if it moves.
PIECE = 64 * 1024


class BadRequestError(Exception):
    """The server can not understand the request. ``status`` is the status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpConnection:
    """Requests in, responses out, one at a time. For one thread, except ``closing``.

    The methods raise ``BrokenError`` if the peer has gone, and ``DeadlineError`` if it is
    too slow.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._h11 = h11.Connection(h11.SERVER)
        # Why the rest of the request's body can not be read, or None.
        self._body_error: BadRequestError | None = None
        #: Whether this request is the connection's last. Any thread may set it.
        self.closing = False

    # Receiving

    def next_request(self) -> h11.Request | None:
        """Wait for a request's head. Returns None if no other request comes.

        Raises ``BadRequestError``: answer with its status, and close the connection.
        """
        try:
            event = self._next_event(HEAD_TIMEOUT)
        except DeadlineError:
            if not self._h11.trailing_data[0]:
                return None  # idle
            raise BadRequestError(408, "The head of the request took too long.") from None
        if not isinstance(event, h11.Request):
            return None
        names = {name for name, _ in event.headers}
        if event.http_version not in (b"1.1", b"1.0"):
            raise BadRequestError(505, "This server speaks HTTP/1.1 and HTTP/1.0 only.")
        if b"transfer-encoding" in names:
            # RFC 9112 section 6.1: two ways to smuggle a request in.
            if b"content-length" in names:
                raise BadRequestError(
                    400, "Transfer-Encoding and Content-Length exclude each other."
                )
            if event.http_version == b"1.0":
                raise BadRequestError(400, "HTTP/1.0 has no Transfer-Encoding.")
        if event.method == b"CONNECT":
            raise BadRequestError(501, "This server is not a proxy.")
        return event

    def read_body(self) -> bytes:
        """Wait for more of the request's body. Returns ``b""`` at its end.

        Raises ``BadRequestError`` if the body breaks off or violates HTTP.
        """
        if self._body_error is not None:
            raise self._body_error  # the end of the body is unknown
        if self._h11.their_state is not h11.SEND_BODY:
            return b""
        if self._h11.they_are_waiting_for_100_continue:
            self.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
        try:
            event = self._next_event(BODY_TIMEOUT)
        except DeadlineError:
            error = BadRequestError(408, "The body of the request took too long.")
        except BrokenError as exc:
            # The reader gets one kind of error, however the body breaks off.
            error = BadRequestError(400, f"The body of the request breaks off: {exc}.")
        except BadRequestError as exc:
            error = exc
        else:
            return bytes(event.data) if isinstance(event, h11.Data) else b""
        self._body_error = error
        raise error from None

    def take_received(self) -> bytes:
        """Return the bytes received behind an upgrade request."""
        self.read_body()  # the body is empty, but h11 wants its end to be read
        return self._h11.trailing_data[0]

    def _next_event(self, timeout: float) -> Event:
        deadline = Deadline(timeout)
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                self._h11.receive_data(self._transport.receive(deadline.left))
        except h11.RemoteProtocolError as exc:
            raise BadRequestError(exc.error_status_hint, f"This is not HTTP: {exc}.") from exc
        assert isinstance(event, Event), event
        return event

    # Sending

    def send(self, *events: h11.InformationalResponse | h11.Response | h11.Data) -> None:
        """Send the events in one write.

        Raises ``h11.LocalProtocolError`` if HTTP forbids one of them; then nothing is sent.
        """
        self._write(b"".join([self._h11.send(event) for event in events]))

    def end_response(self) -> None:
        """End the response.

        Raises ``h11.LocalProtocolError`` if its body is shorter than its Content-Length.
        """
        self._write(self._h11.send(h11.EndOfMessage()))

    @property
    def body_in_doubt(self) -> bool:
        """Whether the peer waits for a 100 before it sends the body. If it gets another
        response, it may send the body or not (RFC 9110 section 10.1.1)."""
        return self._h11.they_are_waiting_for_100_continue

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            self._transport.send(b"", view[start : start + PIECE], BODY_TIMEOUT)

    # Between requests and at the end

    def start_next_cycle(self) -> bool:
        """Get ready for another request. Returns False if the connection must close."""
        if self._h11.our_state is not h11.DONE or self.closing:
            return False
        left = DISCARD_UP_TO
        try:
            while data := self.read_body():
                left -= len(data)
                if left < 0:
                    return False
        except BadRequestError:
            return False
        self._h11.start_next_cycle()
        return True

    def finish(self) -> None:
        """Let the peer read the whole response, then shut the transport down."""
        if self._h11.our_state is not h11.SWITCHED_PROTOCOL:
            self._transport.shutdown_write()
            deadline = Deadline(LINGER)
            try:
                while not deadline.passed and self._transport.receive(deadline.left):
                    pass
            except (BrokenError, DeadlineError):
                pass
        self._transport.shutdown()
