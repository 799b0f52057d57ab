"""Origins (RFC 6454): what a browser says in the header ``Origin``, and which ones are allowed.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Origin", "allowed_origin", "is_allowed", "parse_origin"]

#: How many origins are remembered: most requests come from the same few pages. A header has at
#: most 8 KiB, so they take no more than half a megabyte.
_REMEMBERED = 64

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

#: Browsers encode these as they are, and Python's codec replaces them (IDNA 2008 and 2003).
_ENCODED_DIFFERENTLY = frozenset("ßẞς\u200c\u200d")


class Origin(NamedTuple):
    """The parts that are compared. Port 0 is that of a scheme without a default port."""

    scheme: str
    host: str
    port: int


#: The origin of a sandboxed page, and in some browsers of a local file (RFC 6454 section 7.1).
_NULL = Origin("null", "", 0)


@lru_cache(maxsize=_REMEMBERED)
def parse_origin(text: str) -> Origin | None:
    """The origin in a header, None if there is none: ``null`` is an origin too."""
    if text == "null":
        return _NULL
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or "@" in parts.netloc or parts.path or parts.query or parts.fragment:
        return None
    if not parts.hostname:
        # Some browsers name local files so, all of them alike.
        return Origin("file", "", 0) if text.lower() == "file://" else None
    if port is None:
        port = _DEFAULT_PORTS.get(parts.scheme, 0)
    return Origin(parts.scheme, parts.hostname, port)


def allowed_origin(text: str) -> Origin:
    """An origin for the option ``origins``; its host may begin with ``*.``, for subdomains.

    Internationalised hosts become what browsers send. Raises ``ValueError`` for a text that no
    origin can match; the message says what to write.
    """
    if text == "*":
        raise ValueError('to let pages of all origins in, write origins="*", without a list')
    origin = parse_origin(text)
    if origin is None:
        raise ValueError(
            f"{text!r} is not an origin: write scheme, host and, unless it is the default, port, "
            'such as "https://example.com" or "http://localhost:5000"'
        )
    host = origin.host
    if "*" in host and (not host.startswith("*.") or "*" in host[1:] or not host.strip("*.")):
        raise ValueError(
            f"{text!r} can match no origin: a * stands for subdomains, at the beginning of a host, "
            'such as "https://*.example.com"'
        )
    if not host.isascii():
        try:
            if _ENCODED_DIFFERENTLY & set(host):
                raise UnicodeError
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(
                f"the host of {text!r} can not be encoded here: write it as browsers send it, "
                'such as "https://xn--bcher-kva.example"'
            ) from None
    return origin._replace(host=host)


def is_allowed(origin: Origin, allowed: Iterable[Origin]) -> bool:
    """Whether an origin is among the allowed ones, or a subdomain of one with ``*.``."""
    return any(
        (one.scheme, one.port) == (origin.scheme, origin.port)
        and (
            origin.host == one.host
            or (one.host.startswith("*.") and origin.host.endswith(one.host[1:]))
        )
        for one in allowed
    )
