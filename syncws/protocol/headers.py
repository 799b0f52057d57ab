"""The rules for header fields that both sides of an opening handshake share.

Names and values (RFC 9110 sections 5.5 and 5.6.2), the fields that belong to the
handshake itself, and origins (RFC 6454).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import SupportsIndex, overload

__all__ = [
    "RESERVED",
    "VERSION",
    "Headers",
    "ResponseHeaders",
    "check_headers",
    "is_token",
]

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

#: The only version of the protocol (RFC 6455 section 4.2.1 item 6).
VERSION = "13"

# The characters of a field name and of a field value (RFC 9110 sections 5.6.2 and 5.5).
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

#: The headers that the handshake sets itself: a second copy would contradict the first.
RESERVED = frozenset(
    {
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "transfer-encoding",
        "upgrade",
    }
)


class ResponseHeaders(list[tuple[str, str]]):
    """The headers of a response: pairs of a name and a value, in the order they came in.

    The methods that take a name find it in any case: ``headers["set-cookie"]``.
    """

    def get_all(self, name: str) -> list[str]:
        """Return every value of a header, an empty list if there is none."""
        wanted = name.lower()
        return [value for key, value in self if key.lower() == wanted]

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, ``default`` if there is none."""
        return next(iter(self.get_all(name)), default)

    def __contains__(self, item: object) -> bool:
        if isinstance(item, str):
            return bool(self.get_all(item))
        return super().__contains__(item)

    @overload
    def __getitem__(self, index: str) -> str: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> tuple[str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, str]]: ...
    def __getitem__(
        self, index: str | SupportsIndex | slice
    ) -> str | tuple[str, str] | list[tuple[str, str]]:
        if not isinstance(index, str):
            return super().__getitem__(index)
        value = self.get(index)
        if value is None:
            raise KeyError(index)
        return value


def is_token(name: str) -> bool:
    """Whether ``name`` may be the name of a header, or of a subprotocol."""
    return _TOKEN.fullmatch(name) is not None


def check_headers(headers: Headers, reserved: frozenset[str] = RESERVED) -> list[tuple[str, str]]:
    """Return the headers as pairs.

    Raises ``TypeError`` for anything else than headers. Raises ``ValueError`` for a header that
    would break or forge the response, or the request if ``reserved`` has a request's names.
    """
    if not isinstance(headers, Iterable):
        raise TypeError(
            f"headers are pairs of a name and a value, or a mapping, not {headers!r}: for none, "
            "leave headers out"
        )
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for pair in pairs:
        # The value is not repeated: it may be a secret.
        if isinstance(pair, str) or [isinstance(text, str) for text in pair] != [True, True]:
            raise TypeError("a header is a pair of a name and a value, both of them str")
    for name, value in pairs:
        if not is_token(name):
            raise ValueError(f"{name!r} is not the name of an HTTP header")
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"the value of the header {name!r} has characters HTTP forbids")
        if name.lower() in reserved:
            raise ValueError(f"the header {name!r} belongs to the handshake and can not be set")
    return pairs
