"""The opening handshake, seen from the client (RFC 6455 section 4.1).

Pure: a URL and the options go in, the bytes of a request come out; the bytes of the answer go
in, :class:`Opened` or :class:`HandshakeError` comes out. No I/O, no threads, no clock:
``connect.py`` moves the bytes. h11 parses HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h11
from wsproto.utilities import generate_accept_token, generate_nonce

from ..errors import HandshakeError
from ..options import Options
from ..protocol.deflate import Deflate, DeflateExtension
from ..protocol.deflate_offers import accepted_deflate, offer_deflate
from ..protocol.headers import (
    VERSION,
    Headers,
    ResponseHeaders,
    check_headers,
    is_token,
)
from .url import Url

__all__ = ["RESERVED", "ClientHandshake", "Opened"]

# Every HTTP response begins like this.
_BEGINNING = b"HTTP/"

#: The handshake's own headers: a second copy would contradict the first.
RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    }
)

#: Bytes of the answer's head at most; what one read brings may exceed it.
#: Precedent: h11's own default.
MAX_HEAD = 16 * 1024

#: Bytes of a refusal's body that are kept, to be shown to the user.
MAX_BODY = 64 * 1024

#: Characters of a refusal's body that go into the exception's message.
_SHOWN = 200


@dataclass(frozen=True)
class Opened:
    """What the server has agreed to."""

    headers: ResponseHeaders
    subprotocol: str | None
    deflate: DeflateExtension | None
    #: The bytes that came right behind the answer: the session's first.
    received: bytes


class ClientHandshake:
    """One opening handshake: its request, and the parser of its answer.

    Raises ``ValueError`` for headers or subprotocols that can not be sent.
    """

    def __init__(
        self, url: Url, options: Options, headers: Headers, subprotocols: Sequence[str]
    ) -> None:
        self._options = options
        self._subprotocols = subprotocols
        self._key = generate_nonce()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        # The answer if it is a refusal, and its body so far.
        self._response: h11.Response | None = None
        self._body = bytearray()
        #: The bytes of the request.
        self.request = self._request(url, headers)

    def _request(self, url: Url, extra: Headers) -> bytes:
        """RFC 6455 section 4.1, the client's requirements."""
        given = check_headers(extra, RESERVED)
        headers = [
            ("Host", url.host_header),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._key.decode("ascii")),
            ("Sec-WebSocket-Version", VERSION),
        ]
        if self._subprotocols:
            _check_subprotocols(self._subprotocols)
            headers.append(("Sec-WebSocket-Protocol", ", ".join(self._subprotocols)))
        if isinstance(self._options.compression, Deflate):
            offer = offer_deflate(self._options.compression)
            headers.append(("Sec-WebSocket-Extensions", offer))
        if url.authorization is not None:
            if any(name.lower() == "authorization" for name, _ in given):
                raise ValueError("there is a user in the URL and an Authorization header as well")
            headers.append(("Authorization", url.authorization))
        request = h11.Request(
            method="GET",
            target=f"{url.path}?{url.query}" if url.query else url.path,
            headers=[
                (name.encode("ascii"), value.strip(" \t").encode("latin-1"))
                for name, value in [*headers, *given]
            ],
        )
        return self._h11.send(request) + self._h11.send(h11.EndOfMessage())

    def receive_data(self, data: bytes) -> Opened | None:
        """Take bytes of the answer, ``b""`` for the end of the stream.

        Returns None while more is needed. Raises ``HandshakeError``, with the body, if the
        server has not accepted.
        """
        if not data and self._response is None:
            raise _no_answer("the server closed the connection before its answer was complete")
        try:
            self._h11.receive_data(data)
            while (event := self._h11.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.InformationalResponse):
                    if event.status_code == 101:
                        return self._accepted(event)
                    continue  # such as 103: the answer is still to come
                if isinstance(event, h11.Response):
                    self._response = event
                    continue
                if isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) < MAX_BODY:
                        continue
                break
            else:
                begun = self._h11.trailing_data[0]
                if self._response is None and not begun.startswith(_BEGINNING[: len(begun)]):
                    # Do not wait for more: servers of another kind may wait for us.
                    raise _no_answer(f"the server does not speak HTTP, it sent {begun[:_SHOWN]!r}")
                return None
        except h11.RemoteProtocolError as exc:
            if self._response is None:
                raise _no_answer(f"the server's answer is not an HTTP response: {exc}") from exc
        assert self.refusal is not None
        raise self.refusal

    @property
    def refusal(self) -> HandshakeError | None:
        """The server's refusal, with the part of its body that has come; None before its head."""
        if self._response is None:
            return None
        status, headers = self._response.status_code, _decoded(self._response)
        body = bytes(self._body[:MAX_BODY])
        message = f"the server answered with status {status} instead of 101"
        location = headers.get("Location")
        if 300 <= status < 400 and location is not None:
            message += f"; it redirects to {location!r}"
        elif body:
            message += f": {body.decode('utf-8', 'replace').strip()[:_SHOWN]!r}"
        return HandshakeError(status, headers, body, message)

    def _accepted(self, response: h11.InformationalResponse) -> Opened:
        """The checks of RFC 6455 section 4.1 on the server's answer, items 2 to 6."""
        headers = _decoded(response)
        version = response.http_version.decode("ascii")

        def the_one(name: str) -> str | None:
            values = headers.get_all(name)
            if len(values) > 1:
                raise ValueError(f"there is more than one {name}")
            return values[0] if values else None

        try:
            if version != "1.1":
                raise ValueError(f"its version is HTTP/{version}, and must be HTTP/1.1")
            upgrade = the_one("Upgrade")
            if upgrade is None or upgrade.lower() != "websocket":
                raise ValueError("there is no 'Upgrade: websocket'")
            connection = headers.get_all("Connection")
            if "upgrade" not in [part.strip().lower() for part in ",".join(connection).split(",")]:
                raise ValueError("there is no 'Connection: Upgrade'")
            expected = generate_accept_token(self._key).decode("ascii")
            if the_one("Sec-WebSocket-Accept") != expected:
                raise ValueError("Sec-WebSocket-Accept does not fit the key of the request")
            subprotocol = the_one("Sec-WebSocket-Protocol")
            if subprotocol is not None and subprotocol not in self._subprotocols:
                raise ValueError(f"the subprotocol {subprotocol!r} was not offered")
            deflate = self._deflate(the_one("Sec-WebSocket-Extensions"))
        except ValueError as exc:
            message = f"the server's 101 breaks RFC 6455 section 4.1: {exc}"
            raise HandshakeError(101, headers, b"", message) from None
        return Opened(headers, subprotocol, deflate, self._h11.trailing_data[0])

    def _deflate(self, answer: str | None) -> DeflateExtension | None:
        if answer is None:
            return None
        if not isinstance(self._options.compression, Deflate):
            raise ValueError(f"the extension {answer!r} was not offered")
        return accepted_deflate(answer, self._options.compression, self._options.max_message_size)


def _check_subprotocols(names: Sequence[str]) -> None:
    for name in names:
        if not is_token(name):
            raise ValueError(f"{name!r} is not the name of a subprotocol")
    if len(set(names)) < len(names):
        raise ValueError(f"offer each subprotocol once, not as in {list(names)}")


def _decoded(response: h11.Response | h11.InformationalResponse) -> ResponseHeaders:
    return ResponseHeaders(
        (name.decode("ascii"), value.decode("latin-1"))
        for name, value in response.headers.raw_items()
    )


def _no_answer(message: str) -> HandshakeError:
    return HandshakeError(None, ResponseHeaders(), b"", message)
