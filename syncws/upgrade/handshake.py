"""The server's half of the opening handshake (RFC 6455 section 4.2).

Pure functions: they take a WSGI environ and the options, and return :class:`Accept` or
:class:`Reject`. No I/O, no threads, no clock; ``application.py`` carries out the answer.
wsproto makes the accept token.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from wsproto.utilities import generate_accept_token

from ..protocol.deflate import Deflate, DeflateExtension
from ..protocol.deflate_offers import negotiate_deflate
from ..protocol.headers import (
    VERSION,
    check_headers,
    is_token,
)
from ..protocol.origins import allowed_origin, is_allowed, parse_origin

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..options import Options

__all__ = [
    "Accept",
    "Reject",
    "is_websocket_request",
    "members",
    "negotiate",
    "same_origin",
]


@dataclass(frozen=True)
class Accept:
    """The 101 that opens a session."""

    headers: list[tuple[str, str]]
    subprotocol: str | None
    #: The compression agreed on.
    deflate: DeflateExtension | None = None

    status = "101 Switching Protocols"


@dataclass(frozen=True)
class Reject:
    """An ordinary HTTP answer instead of a session; the body is one line saying why."""

    code: int
    message: str
    extra_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The status line's code and phrase, as WSGI wants them."""
        try:
            return f"{self.code} {HTTPStatus(self.code).phrase}"
        except ValueError:
            return f"{self.code} Refused"

    @property
    def body(self) -> bytes:
        return f"{self.message}\n".encode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(self.body))),
            *self.extra_headers,
        ]


class _Malformed(Exception):
    """The request asks for a WebSocket, but violates RFC 6455."""


def is_websocket_request(environ: WSGIEnvironment) -> bool:
    """Whether the request asks for a WebSocket, well formed or not."""
    return "websocket" in members(environ.get("HTTP_UPGRADE", ""))


def negotiate(environ: WSGIEnvironment, options: Options) -> Accept | Reject:
    """Answer an opening handshake (RFC 6455 section 4.2.2).

    Raises ``ValueError`` if the *application* asks for something impossible, such as a
    subprotocol that the peer did not offer.
    """
    if not is_websocket_request(environ):
        code = options.on_non_websocket_request
        return Reject(
            code if isinstance(code, int) else 501,
            "This address speaks WebSocket only: the request has no 'Upgrade: websocket' header.",
        )
    try:
        key = _check_request(environ)
    except _Malformed as exc:
        return Reject(options.on_handshake_failure, str(exc))
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION", "")
    if version.strip() != VERSION:
        # RFC 6455 section 4.4: name the version that would be understood.
        return Reject(
            426,
            f"Sec-WebSocket-Version {version!r} is not supported, only {VERSION} is.",
            [("Sec-WebSocket-Version", VERSION)],
        )
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _origin_allowed(origin, environ, options.origins):
        return Reject(403, _origin_refused(origin, environ, options.origins))

    subprotocol = _choose_subprotocol(environ, options)
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", generate_accept_token(key.encode("ascii")).decode("ascii")),
    ]
    if subprotocol is not None:
        headers.append(("Sec-WebSocket-Protocol", subprotocol))
    deflate = None
    if isinstance(options.compression, Deflate) and (options.install_extensions or not options.raw):
        offers = environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "").split(",")
        agreed = negotiate_deflate(offers, options.compression, options.max_message_size)
        if agreed is not None:
            deflate, extension = agreed
            headers.append(("Sec-WebSocket-Extensions", extension))
    extra = options.headers
    headers.extend(check_headers(extra(environ) if callable(extra) else extra))
    return Accept(headers, subprotocol, deflate)


def same_origin(environ: WSGIEnvironment) -> bool:
    """Whether the request comes from a page of the host that it asks, or from no page."""
    origin = environ.get("HTTP_ORIGIN")
    return origin is None or (
        bool(environ.get("HTTP_HOST")) and _origin_allowed(origin, environ, None)
    )


def _check_request(environ: WSGIEnvironment) -> str:
    """Check RFC 6455 section 4.2.1, items 1 to 5. Returns the key."""
    method = environ["REQUEST_METHOD"]
    if method != "GET":
        raise _Malformed(f"A WebSocket is opened with GET, not with {method}.")
    protocol = environ.get("SERVER_PROTOCOL", "")
    if protocol != "HTTP/1.1":
        raise _Malformed(
            f"A WebSocket is opened over HTTP/1.1, not over {protocol or 'an unknown version'}; "
            "a proxy in between may need to be told ('proxy_http_version 1.1' in nginx)."
        )
    if environ.get("HTTP_TRANSFER_ENCODING") or environ.get("CONTENT_LENGTH") not in (
        None,
        "",
        "0",
    ):
        raise _Malformed("A WebSocket request has no body, but this one has.")
    if not environ.get("HTTP_HOST"):
        raise _Malformed("The request has no Host header.")
    if "upgrade" not in members(environ.get("HTTP_CONNECTION", "")):
        raise _Malformed("The request has no 'Connection: Upgrade' header.")
    key: str | None = environ.get("HTTP_SEC_WEBSOCKET_KEY")
    if key is None:
        raise _Malformed("The request has no Sec-WebSocket-Key header.")
    key = key.strip()
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise _Malformed("Sec-WebSocket-Key is not base64.") from None
    if len(nonce) != 16:
        raise _Malformed(f"Sec-WebSocket-Key holds {len(nonce)} bytes instead of 16.")
    if "HTTP_SEC_WEBSOCKET_VERSION" not in environ:
        raise _Malformed("The request has no Sec-WebSocket-Version header.")
    return key


def members(value: str) -> list[str]:
    """Return the members of a comma-separated header, in lower case."""
    value = value.lower()
    if "," not in value:
        return [value.strip()]
    return [member.strip() for member in value.split(",")]


def _choose_subprotocol(environ: WSGIEnvironment, options: Options) -> str | None:
    header = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
    # RFC 6455 section 4.1 item 10: names are tokens. Others must not get into our headers.
    offered = [name for part in header.split(",") if is_token(name := part.strip())]
    if callable(options.subprotocols):
        chosen = options.subprotocols(offered)
        if chosen is not None and chosen not in offered:
            raise ValueError(f"subprotocols() chose {chosen!r}, but the peer offers only {offered}")
        return chosen
    return next((name for name in options.subprotocols if name in offered), None)


def _origin_allowed(origin: str, environ: WSGIEnvironment, origins: Sequence[str] | None) -> bool:
    if origins == "*":
        return True
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    if origins is not None:
        return is_allowed(parsed, map(allowed_origin, origins))
    if not parsed.host:
        return False  # a sandboxed page, or a local file
    # The same host and port. The scheme is left out: behind a proxy that ends TLS, the server
    # itself sees plain HTTP.
    return parse_origin(f"{parsed.scheme}://{environ['HTTP_HOST'].strip()}") == parsed


def _origin_refused(origin: str, environ: WSGIEnvironment, origins: Sequence[str] | None) -> str:
    if origins is not None:
        return f"Origin {origin!r} is not among the origins that this address allows."
    return (
        f"Origin {origin!r} is not this host, {environ['HTTP_HOST']!r}. Allow it with the "
        "option origins, or have the proxy pass the Host header on unchanged."
    )
