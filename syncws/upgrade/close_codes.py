"""The close codes and reasons that stand for the HTTP status of a refusal."""

from __future__ import annotations

from ..close import MAX_REASON_BYTES, CloseCode

__all__ = ["as_reason", "close_code"]

#: Statuses and their close codes. 3000 and 3003 are registered with IANA for them.
_CODES = {401: 3000, 403: 3003, 404: 4404, 429: 4429, 503: int(CloseCode.TRY_AGAIN_LATER)}

#: Redirects that may lead to a login page; the permanent ones do not.
_LOGIN = frozenset({302, 303, 307})


def close_code(status: int) -> int | None:
    """Return the close code for the HTTP status of a refusal; None if it is no refusal."""
    if status in _LOGIN:
        return 3000
    if status in _CODES:
        return _CODES[status]
    if 300 <= status < 500:
        return 4000 + status
    return int(CloseCode.INTERNAL_ERROR) if status >= 500 else None


def as_reason(text: str) -> str:
    """Return as much of a text as the reason of a Close can have (RFC 6455 section 5.5)."""
    return text.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
