"""Redirects: where an answer leads, and which headers may go there.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

import dataclasses
from urllib.parse import urldefrag, urljoin

from ..errors import HandshakeError
from .url import Url, parse_url

__all__ = ["for_another_server", "redirected"]

_STATUSES = frozenset({301, 302, 303, 307, 308})

#: The headers of the user's that go to another server. The others may be credentials:
#: Authorization and Cookie are, and X-Api-Key may be.
_HARMLESS = frozenset({"accept-language", "origin", "user-agent"})


def redirected(url: Url, refusal: HandshakeError) -> Url | None:
    """Return the URL that a refusal leads to, None if it leads nowhere.

    Raises ``HandshakeError`` if the redirect must not be followed.
    """
    location = {name.lower(): value for name, value in refusal.headers}.get("location")
    if refusal.status not in _STATUSES or location is None:
        return None
    scheme = "https" if url.secure else "http"
    base = f"{scheme}://{url.host_header}{url.path}"
    try:
        absolute = urldefrag(urljoin(base, location)).url
        first, separator, rest = absolute.partition(":")
        target = parse_url({"http": "ws", "https": "wss"}.get(first, first) + separator + rest)
    except ValueError as exc:
        raise _not_followed(refusal, str(exc)) from None
    if url.secure and not target.secure:
        raise _not_followed(refusal, "it leads from wss:// to ws://, without TLS")
    # A password that the server puts into the URL is not the user's, so it is left out.
    own = url.authorization if is_same_server(url, target) else None
    return dataclasses.replace(target, authorization=own)


def is_same_server(url: Url, target: Url) -> bool:
    """Whether a redirect stays on its server: the same host and port, or the step from
    ``ws`` to ``wss`` with the default ports of both."""
    if url.host != target.host:
        return False
    return url.port == target.port or (not url.secure and (url.port, target.port) == (80, 443))


def for_another_server(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the user's headers that may go to another server."""
    return [(name, value) for name, value in headers if name.lower() in _HARMLESS]


def _not_followed(refusal: HandshakeError, why: str) -> HandshakeError:
    message = f"{refusal}; this redirect is not followed: {why}"
    return HandshakeError(refusal.status, refusal.headers, refusal.body, message)
