"""The format of the messages between processes, and of those in a room's log.

Pure: no I/O, no threads, no clock.

A publication is one line of ASCII and an envelope. The line has the version of the format, and,
if the message is kept, its position: ``2 EPOCH NUMBER MILLISECONDS PREVIOUS``. The envelope has a
header with its length in front, so that a later version can append fields that this one skips.

Data without this format is thrown away. So a program that can write to the Redis can send to
rooms and close sessions, and nothing else.
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
#: The members have changed: ask for them again.
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
        """Return the position for an id, or None for any other text, which a peer may send."""
        match = _ID.fullmatch(text) if isinstance(text, str) else None
        return None if match is None else Position(match[1], int(match[2]), int(match[3]))


#: The position in a room that has had no message.
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
        """Return the envelope in ``data``, or None if it is not valid."""
        size = data[0] if data else 0
        header, payload = data[1 : 1 + size], data[1 + size :]
        if size < _HEADER or len(header) < size or len(payload) > MAX_MESSAGE_SIZE:
            return None
        sender, rest = header[:SENDER], header[SENDER:]
        number, rest = rest[:NUMBER], rest[NUMBER:]
        return Envelope(rest[TOKEN : TOKEN + 1], payload, sender, number, rest[:TOKEN])

    @property
    def data(self) -> str | bytes | None:
        """The message itself, or None if this is another request."""
        if self.kind == BINARY:
            return self.payload
        if self.kind not in (TEXT, OBJECT):
            return None
        try:
            return self.payload.decode()
        except UnicodeDecodeError:
            return None


class Publication(NamedTuple):
    """Data from the bus. ``previous`` is the ``time`` of the message before."""

    envelope: Envelope
    position: Position | None
    previous: int


def publication(envelope: bytes) -> bytes:
    """Return the data to publish for a message that is not kept."""
    return VERSION + b"\n" + envelope


def parse_publication(data: bytes) -> Publication | None:
    """Parse published data. Returns None for data without this format; raises
    ``OtherVersionError`` for another version of it."""
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
    """Return the value that a hub has written as JSON, or None if it is not valid."""
    try:
        return json.loads(info)
    except (ValueError, RecursionError):
        return None
