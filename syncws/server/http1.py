"""HTTP/1.1 with one peer: h11 knows the protocol, the transport moves the bytes.

Everything about framing belongs here (heads, bodies, chunks, when a connection
can be used again); what a request means, and WSGI, does not.

Request smuggling: what two readers of one stream could take for different
requests is refused here when h11 does not, and nothing is read as a request
behind a body, or an upgrade, whose end is in doubt.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeAlias

import h11

from ..system.transport import BrokenError, DeadlineError
from ..upgrade.http_times import HEAD_TIMEOUT, LINGER

if TYPE_CHECKING:
    from ..system.transport import Transport

__all__ = ["BadRequestError", "HttpConnection"]

Event: TypeAlias = h11.Request | h11.Data | h11.EndOfMessage | h11.ConnectionClosed

#: Seconds without a byte of a body, either way, after which a peer is given up.
BODY_TIMEOUT = 20.0

#: Bytes of a body that the application has left unread: with up to so many the
#: connection can go on, with more it is cheaper to open another. Precedent: gunicorn.
DISCARD_UP_TO = 64 * 1024

#: Bytes written with one deadline: a large body may take as long as it moves.
PIECE = 64 * 1024


class BadRequestError(Exception):
    """The request is no HTTP that this server understands; ``status`` says which kind of no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpConnection:
    """Requests in, responses out, one at a time. For one thread, but for ``closing``.

    The methods raise ``BrokenError`` and ``DeadlineError`` for a peer that has
    gone or has become too slow.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._h11 = h11.Connection(h11.SERVER)
        # Why the body of the request has come to no end.
        self._body_error: BadRequestError | None = None
        #: Set, by any thread, to have no other request on this connection.
        self.closing = False

    # Receiving

    def next_request(self) -> h11.Request | None:
        """Wait for a request's head; None when no other one will come.

        Raises ``BadRequestError``; it can be answered, and is the last.
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
            raise BadRequestError(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        if b"transfer-encoding" in names:
            # RFC 9112 section 6.1: the two ways to get a request smuggled in.
            if b"content-length" in names:
                raise BadRequestError(
                    400, "Transfer-Encoding and Content-Length exclude each other."
                )
            if event.http_version == b"1.0":
                raise BadRequestError(400, "HTTP/1.0 has no Transfer-Encoding.")
        if event.method == b"CONNECT":
            raise BadRequestError(501, "This server is no proxy.")
        return event

    def read_body(self) -> bytes:
        """Wait for more of the request's body; ``b""`` when that was all.

        Raises ``BadRequestError`` when it breaks off, or is no body.
        """
        if self._body_error is not None:
            raise self._body_error  # it has no end that could be read up to
        if self._h11.their_state is not h11.SEND_BODY:
            return b""
        if self._h11.they_are_waiting_for_100_continue:
            self.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue"))
        try:
            event = self._next_event(BODY_TIMEOUT)
        except DeadlineError:
            error = BadRequestError(408, "The body of the request took too long.")
        except BrokenError as exc:
            # For who reads: a body that breaks off, in whatever way.
            error = BadRequestError(400, f"The body of the request breaks off: {exc}.")
        except BadRequestError as exc:
            error = exc
        else:
            return bytes(event.data) if isinstance(event, h11.Data) else b""
        self._body_error = error
        raise error from None

    def take_received(self) -> bytes:
        """What has been received behind the request, of an upgrade."""
        self.read_body()  # there is none, and h11 waits to be asked
        return self._h11.trailing_data[0]

    def _next_event(self, timeout: float) -> Event:
        deadline = monotonic() + timeout
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                left = max(0.0, deadline - monotonic())
                self._h11.receive_data(self._transport.receive(left))
        except h11.RemoteProtocolError as exc:
            raise BadRequestError(exc.error_status_hint, f"This is no HTTP: {exc}.") from exc
        assert isinstance(event, Event), event
        return event

    # Sending

    def send(self, *events: h11.InformationalResponse | h11.Response | h11.Data) -> None:
        """Send these at once.

        Raises ``h11.LocalProtocolError`` for what HTTP forbids: nothing is sent.
        """
        self._write(b"".join([self._h11.send(event) for event in events]))

    def end_response(self) -> None:
        """The response is complete.

        Raises ``h11.LocalProtocolError`` when its body is shorter than it said.
        """
        self._write(self._h11.send(h11.EndOfMessage()))

    @property
    def body_in_doubt(self) -> bool:
        """Whether the peer waits for a 100 before it sends its body: when it
        gets another answer it may send it or not (RFC 9110 section 10.1.1)."""
        return self._h11.they_are_waiting_for_100_continue

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            self._transport.send(b"", view[start : start + PIECE], BODY_TIMEOUT)

    # Between requests and at the end

    def start_next_cycle(self) -> bool:
        """Get ready for another request; False when there can be none."""
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
        """Let the peer read the answer to the end; the transport is shut down afterwards."""
        if self._h11.our_state is not h11.SWITCHED_PROTOCOL:
            self._transport.shutdown_write()
            deadline = monotonic() + LINGER
            try:
                while (left := deadline - monotonic()) > 0 and self._transport.receive(left):
                    pass
            except (BrokenError, DeadlineError):
                pass
        self._transport.shutdown()
