"""The events that the protocol makes of received bytes, and the state of a session.

Pure: no I/O, no threads, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..close import Cause

__all__ = ["Event", "Fault", "Part", "PeerClose", "Ping", "Pong", "State"]


class State(Enum):
    """The state of a session (RFC 6455 sections 4.1 and 7.1)."""

    OPEN = "open"
    #: One side has sent its Close, or the connection has been failed.
    CLOSING = "closing"
    #: Both sides have sent their Close.
    CLOSED = "closed"


@dataclass(frozen=True)
class Ping:
    payload: bytes


@dataclass(frozen=True)
class Pong:
    payload: bytes


@dataclass(frozen=True)
class PeerClose:
    """The peer's Close frame; the code is 1005 if the frame has none."""

    code: int
    reason: str


@dataclass(frozen=True)
class Fault:
    """The peer broke a rule: fail the connection (RFC 6455 section 7.1.7)."""

    code: int
    reason: str
    cause: Cause


@dataclass(frozen=True)
class Part:
    """A part of a message, as it arrives. Parts come only while ``streaming`` is set."""

    data: str | bytes
    #: Whether this is the last part of the message.
    finished: bool

    def __len__(self) -> int:
        return len(self.data)


#: A text message is ``str``, a binary message is ``bytes``.
Event = str | bytes | Part | Ping | Pong | PeerClose | Fault
