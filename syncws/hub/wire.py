"""The format of what one process sends to the others, and what a room's log keeps.

Pure: no I/O, no threads, no clock.

A publication is one line of ASCII and an envelope. The line has the version of the format, and,
if the message is kept, its position: ``2 EPOCH NUMBER MILLISECONDS PREVIOUS``. The envelope has a
header with its length in front, so that a later version can append fields that this one skips.

Anybody who can write to the Redis can send to rooms, and nothing else: data that does not have
this format is thrown away.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Envelope",
    "OtherVersionError",
    "Position",
    "Publication",
    "from_json",
    "parse_publication",
]

VERSION = b"2"

TEXT, OBJECT, BINARY = b"t", b"j", b"b"
#: Somebody came or went: ask for the members again.
PRESENCE = b"p"
#: End the sessions in the room; the payload is JSON with ``code`` and ``reason``.
DISCONNECT = b"x"

SENDER = 16
TOKEN = 16
NUMBER = 8
NOBODY = bytes(TOKEN)
_HEADER = SENDER + NUMBER + TOKEN + 1

#: Bytes of the largest message that is sent over the bus, or taken from it.
MAX_MESSAGE_SIZE = 16 * 1024 * 1024

_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})-([0-9]{1,15})", re.ASCII)
_LINE = re.compile(rb"2(?: ([0-9a-f]{8}) ([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,15}))?\n")
_OTHER_VERSION = re.compile(rb"[0-9]{1,3}[ \n]")


class OtherVersionError(Exception):
    """A publication has a version that this version of syncws does not know."""


class Position(NamedTuple):
    """Where a message stands in its room.

    ``number`` counts by one. ``time`` (milliseconds of the Redis's clock) tells two messages
    with one number apart, after a failover has lost some; ``epoch`` is drawn anew when the
    Redis has lost the room.
    """

    epoch: str
    number: int
    time: int

    @property
    def id(self) -> str:
        """The id that users see."""
        return f"{self.epoch}-{self.number}-{self.time}"

    def covers(self, other: Position) -> bool:
        """Whether ``other`` is this message or one before it."""
        return self.epoch == other.epoch and other.number <= self.number and other.time <= self.time

    @staticmethod
    def parse(text: object) -> Position | None:
        """The position for an id; None for anything else: ids come back from peers."""
        match = _ID.fullmatch(text) if isinstance(text, str) else None
        return None if match is None else Position(match[1], int(match[2]), int(match[3]))


#: The position in a room in which nothing has been sent.
NOTHING = Position("", 0, 0)


@dataclass(frozen=True)
class Envelope:
    """A message, or a request, to a room.

    ``sender`` is the process, ``number`` tells its messages apart, ``exclude`` is the token of
    the session that does not get the message.
    """

    kind: bytes
    payload: bytes
    sender: bytes
    number: bytes = bytes(NUMBER)
    exclude: bytes = NOBODY

    def encode(self) -> bytes:
        header = self.sender + self.number + self.exclude + self.kind
        return bytes([len(header)]) + header + self.payload

    @staticmethod
    def decode(data: bytes) -> Envelope | None:
        """None when ``data`` is no envelope."""
        size = data[0] if data else 0
        header, payload = data[1 : 1 + size], data[1 + size :]
        if size < _HEADER or len(header) < size or len(payload) > MAX_MESSAGE_SIZE:
            return None
        sender, rest = header[:SENDER], header[SENDER:]
        number, rest = rest[:NUMBER], rest[NUMBER:]
        return Envelope(rest[TOKEN : TOKEN + 1], payload, sender, number, rest[:TOKEN])

    @property
    def data(self) -> str | bytes | None:
        """The message itself; None when this is not a message."""
        if self.kind == BINARY:
            return self.payload
        if self.kind not in (TEXT, OBJECT):
            return None
        try:
            return self.payload.decode()
        except UnicodeDecodeError:
            return None


class Publication(NamedTuple):
    """What arrives from the bus: ``previous`` is the ``time`` of the message before."""

    envelope: Envelope
    position: Position | None
    previous: int


def publication(envelope: bytes) -> bytes:
    """What is published for a message that is not kept."""
    return VERSION + b"\n" + envelope


def parse_publication(data: bytes) -> Publication | None:
    """None when ``data`` has not this format; raises ``OtherVersionError``."""
    match = _LINE.match(data)
    if match is None:
        if _OTHER_VERSION.match(data):
            raise OtherVersionError(data.partition(b"\n")[0][:32].decode(errors="replace"))
        return None
    envelope = Envelope.decode(data[match.end() :])
    if envelope is None:
        return None
    if match[1] is None:
        return Publication(envelope, None, 0)
    position = Position(match[1].decode(), int(match[2]), int(match[3]))
    return Publication(envelope, position, int(match[4]))


def from_json(info: bytes) -> Any:
    """What a hub has written as JSON; None for what was not written by a hub."""
    try:
        return json.loads(info)
    except (ValueError, RecursionError):
        return None
