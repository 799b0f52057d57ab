"""The messages that a room keeps: the option, the ids in messages, and the log in memory."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..protocol.json_text import json_text
from ..protocol.prepared import PreparedMessage
from . import wire
from .wire import Envelope, Position

__all__ = ["History", "MemoryLog", "Missed", "to_envelope", "to_message"]

#: Seconds for which the position of a room is known after its last message was forgotten. So a
#: client that has missed nothing is not told of a gap.
POSITION_KEPT = 24 * 3600.0


@dataclass(frozen=True)
class History:
    """How much of each room a hub keeps: ``Hub(history=History(messages=500, seconds=3600))``.

    ``messages`` is how many messages are kept, and ``seconds`` for how long. Each message has an
    id, by which ``hub.join(after=…)`` and ``hub.history(after=…)`` find the messages after it.

    If a message is text with a JSON object, its id stands in the object under ``key``. For other
    messages, ``stamp(message, id)`` returns what is sent to the members. Without ``stamp`` they
    are sent as they are. ``stamp`` may be called in a thread of the hub, so it must be quick.

    Raises ``TypeError`` or ``ValueError`` for invalid values.
    """

    messages: int = 100
    seconds: float = 3600.0
    key: str = "id"
    stamp: Callable[[str | bytes, str], str | bytes] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.messages, int) or isinstance(self.messages, bool):
            raise TypeError(f"messages is a whole number, such as 500, not {self.messages!r}")
        if self.messages < 1:
            raise ValueError(f"messages is at least 1, not {self.messages!r}")
        if not isinstance(self.seconds, (int, float)) or isinstance(self.seconds, bool):
            raise TypeError(f"seconds is a number, such as 3600, not {self.seconds!r}")
        if not 0.001 <= self.seconds <= 10 * 365 * 24 * 3600:  # which refuses NaN too
            raise ValueError(f"seconds is from 0.001 to ten years, not {self.seconds!r}")
        if not isinstance(self.key, str):
            raise TypeError(f'key is the name in a JSON object, such as "id", not {self.key!r}')
        if self.stamp is not None and not callable(self.stamp):
            raise TypeError(f"stamp is a function of message and id, not {self.stamp!r}")

    @property
    def milliseconds(self) -> int:
        return math.ceil(self.seconds * 1000)


class Missed(NamedTuple):
    """The answer of a log: messages in order, whether some are gone, the room's last position.

    The position of a room without messages has the number 0. It is None if the log has none.
    """

    messages: list[tuple[Position, Envelope]]
    gap: bool
    last: Position | None


def to_envelope(
    data: str | bytes, history: History | None, sender: bytes, exclude: bytes
) -> Envelope:
    """Return the envelope for a message that this process sends."""
    number = os.urandom(wire.NUMBER)
    if isinstance(data, bytes):
        return Envelope(wire.BINARY, data, sender, number, exclude)
    if history is not None and (text := _as_object(data, history.key)) is not None:
        return Envelope(wire.OBJECT, text.encode(), sender, number, exclude)
    return Envelope(wire.TEXT, data.encode(), sender, number, exclude)


def _as_object(text: str, key: str) -> str | None:
    """Return ``text`` without ``key`` and without space around it, or None if it is not a JSON
    object."""
    text = text.strip(" \t\r\n")
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if key in value or not value:
        value.pop(key, None)
        return json_text(value)
    return text


def to_message(
    envelope: Envelope, position: Position | None, history: History | None
) -> PreparedMessage | None:
    """Return the message that members get, or None if the envelope has none."""
    data = envelope.data
    if data is None:
        return None
    if position is not None and history is not None:
        if envelope.kind == wire.OBJECT and isinstance(data, str):
            rest = data[1:] if data == "{}" else "," + data[1:]
            data = f"{{{json.dumps(history.key)}:{json.dumps(position.id)}{rest}"
        elif history.stamp is not None:
            data = history.stamp(data, position.id)
    return PreparedMessage(data)


class _Room:
    def __init__(self) -> None:
        # Held while a message gets its number and is delivered, so that both have one order.
        self.lock = threading.Lock()
        self.last: Position | None = None
        #: The time of the first message since the room was last forgotten.
        self.began = 0
        self.messages: deque[tuple[Position, Envelope]] = deque()


class MemoryLog:
    """The logs of the rooms in this process. Any thread may call every method.

    A room is forgotten ``POSITION_KEPT`` seconds after its last message was. The next message to
    any room removes it.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._epoch = os.urandom(4).hex()
        # How many milliseconds after its last message a room is forgotten.
        self._forgotten_after = history.milliseconds + int(POSITION_KEPT * 1000)
        # Guards _rooms. The first room is the one that has been silent for the longest time.
        self._lock = threading.Lock()
        self._rooms: OrderedDict[str, _Room] = OrderedDict()

    def append(
        self, room: str, envelope: Envelope, deliver: Callable[[Position], None]
    ) -> Position:
        """Keep a message and deliver it, before the next one gets its number."""
        now = int(time.time() * 1000)
        log = self._touch(room, now)
        with log.lock:
            if log.last is None:
                log.began = now
            number, before = (log.last.number, log.last.time) if log.last is not None else (0, 0)
            log.last = Position(self._epoch, number + 1, max(now, before))
            log.messages.append((log.last, envelope))
            self._trim(log, now)
            deliver(log.last)
            return log.last

    def _touch(self, room: str, now: int) -> _Room:
        forgotten = now - self._forgotten_after
        with self._lock:
            while self._rooms:
                name, oldest = next(iter(self._rooms.items()))
                if oldest.last is None or oldest.last.time >= forgotten:
                    break
                del self._rooms[name]
            log = self._rooms.setdefault(room, _Room())
            self._rooms.move_to_end(room)
            return log

    def _trim(self, log: _Room, now: int) -> None:
        while log.messages and (
            len(log.messages) > self._history.messages
            or log.messages[0][0].time < now - self._history.milliseconds
        ):
            log.messages.popleft()

    def read(self, room: str, after: Position | None, limit: int) -> Missed:
        """Return the first ``limit`` messages after ``after``; without it, the last ones."""
        now = int(time.time() * 1000)
        with self._lock:
            log = self._rooms.get(room)
        kept: list[tuple[Position, Envelope]] = []
        last, began = Position(self._epoch, 0, now), now
        if log is not None:
            with log.lock:
                if log.last is not None:
                    self._trim(log, now)
                    kept, last, began = list(log.messages), log.last, log.began
        if after is None:
            return Missed(kept[-limit:] if limit else [], False, last)
        if (
            after.epoch != last.epoch
            or after.number > last.number
            # The room may have been forgotten since then, with other messages.
            or after.time < began - self._forgotten_after
        ):
            return Missed([], True, last)
        missed = [each for each in kept if each[0].number > after.number]
        gap = len(missed) < last.number - after.number
        return Missed(missed[:limit], gap, last)
