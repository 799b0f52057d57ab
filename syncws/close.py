"""How a session ends: close codes, and the reason with its cause (RFC 6455 section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

__all__ = ["Cause", "CloseCode", "CloseReason", "check_sendable"]

#: A control frame carries at most 125 bytes (RFC 6455 section 5.5), and the code takes two of them.
MAX_REASON_BYTES = 123


class CloseCode(IntEnum):
    """The registered close codes (RFC 6455 section 7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


#: Codes that describe an end and are never in a frame (RFC 6455 section 7.4.1).
NEVER_SENT = frozenset(
    {CloseCode.NO_STATUS_RECEIVED, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE}
)
_SENDABLE = frozenset(CloseCode) - NEVER_SENT

#: The codes of ends that are not errors.
_OK = frozenset({CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RECEIVED})

Cause = Literal[
    "peer",
    "local",
    "shutdown",
    "ping_timeout",
    "send_timeout",
    "protocol_error",
    "too_big",
    "eof",
    "error",
]

_EXPLANATIONS: dict[str, str] = {
    "peer": "the peer closed the session",
    "local": "this side closed the session",
    "shutdown": "the server is shutting down",
    "ping_timeout": "the peer stopped answering pings",
    "send_timeout": "the peer stopped reading",
    "protocol_error": "the peer broke the WebSocket protocol",
    "too_big": "the peer sent more than max_message_size or max_frame_size allows",
    "eof": "the peer went away without a Close frame",
    "error": "the connection failed",
}


@dataclass(frozen=True)
class CloseReason:
    """How a session ended.

    ``code`` and ``reason`` are those of the Close frame that began the end,
    whichever side sent it; 1006 when there was none and 1005 when it had no
    code (RFC 6455 section 7.1.5). ``cause`` tells *why*:

    ``peer``
        the peer sent a Close frame.
    ``local``
        the handler returned, or somebody called ``close()`` or ``terminate()``.
    ``shutdown``
        the server is stopping or reloading.
    ``ping_timeout``
        no pong, nor anything else, came within ``timeout``.
    ``send_timeout``
        the peer did not read, and a message could not be written in time.
    ``protocol_error``, ``too_big``
        the peer sent what the protocol or the limits forbid.
    ``eof``
        the TCP connection ended without a Close frame.
    ``error``
        the handler raised, or the operating system reported a failure, such
        as a reset.
    """

    code: int = CloseCode.NORMAL_CLOSURE
    reason: str = ""
    cause: Cause = "local"

    @property
    def ok(self) -> bool:
        """Whether the session ended well: with 1000, with 1001 or without a code."""
        return self.code in _OK

    def __str__(self) -> str:
        explanation = _EXPLANATIONS[self.cause]
        if self.cause == "error" and self.code == CloseCode.INTERNAL_ERROR:
            explanation = "the handler failed"
        text = f"{explanation} (code {int(self.code)}"
        return f"{text}: {self.reason})" if self.reason else f"{text})"


def check_sendable(code: int, reason: str) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless a Close frame may carry these."""
    if not isinstance(code, int):
        raise TypeError(f"a close code is an int, such as 1000, not {code!r}")
    if not isinstance(reason, str):
        raise TypeError(f"a close reason is a str, not {reason!r}")
    if code not in _SENDABLE and not 3000 <= code <= 4999:
        raise ValueError(
            f"close code {code} can not be sent: use one of "
            f"{sorted(int(c) for c in _SENDABLE)}, or 3000 to 4999 for your own"
        )
    size = len(reason.encode())
    if size > MAX_REASON_BYTES:
        raise ValueError(
            f"a close reason has at most {MAX_REASON_BYTES} bytes as UTF-8, this one has {size}"
        )
