"""The parts of a WebSocket URL (RFC 6455 section 3).

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

__all__ = ["Url", "parse_url"]

_DEFAULT_PORTS = {"ws": 80, "wss": 443}

# A name, an IPv4 or an IPv6 address.
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+", re.ASCII)
# RFC 3986 sections 3.3 and 3.4: the characters of a path and of a query. Escapes stay as they
# are.
_PATH = "/:@!$&'()*+,;=~%"
_QUERY = _PATH + "?"


@dataclass(frozen=True)
class Url:
    """The parts of a ``ws`` or ``wss`` URL."""

    secure: bool
    host: str
    port: int
    #: The value of the Host header.
    host_header: str
    path: str
    query: str
    #: The value of the Authorization header, None without user information.
    authorization: str | None


def parse_url(url: str) -> Url:
    """Return the parts of a URL. Characters that a URL may not contain are percent-encoded.

    Raises ``TypeError`` for anything but a ``str``, and ``ValueError`` for anything but a ``ws``
    or ``wss`` URL. The message does not repeat the URL, which may contain a password.
    """
    if not isinstance(url, str):
        raise TypeError(f'the URL is a str, such as "wss://example.com/", not {type(url).__name__}')
    if any(character < " " or character == "\x7f" for character in url):
        raise ValueError("the URL has control characters in it")
    if "#" in url:
        raise ValueError("the URL of a WebSocket has no fragment; write %23 for a '#' in it")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except ValueError as exc:
        raise ValueError(f"the URL has no valid host and port: {exc}") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"the URL begins with ws:// or wss://, not with {parts.scheme!r}")
    if not _HOST.fullmatch(host):
        raise ValueError(f"the URL has no valid host: {host!r}")
    default = _DEFAULT_PORTS[parts.scheme]
    if port is None:
        port = default
    host_header = f"[{host}]" if ":" in host else host
    if port != default:
        host_header += f":{port}"
    return Url(
        secure=parts.scheme == "wss",
        host=host,
        port=port,
        host_header=host_header,
        path=quote(parts.path or "/", safe=_PATH),
        query=quote(parts.query, safe=_QUERY),
        authorization=_authorization(parts.username, parts.password),
    )


def _authorization(username: str | None, password: str | None) -> str | None:
    """HTTP's basic authentication (RFC 7617)."""
    if username is None:
        return None
    user = unquote(username)
    if ":" in user:
        raise ValueError("a user name with a colon in it can not be sent (RFC 7617 section 2)")
    credentials = f"{user}:{unquote(password or '')}".encode()
    return f"Basic {base64.b64encode(credentials).decode('ascii')}"
