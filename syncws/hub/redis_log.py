"""Reading what Redis keeps of a room."""

from __future__ import annotations

import os

from . import wire
from .history import POSITION_KEPT, History, Missed
from .redis_commands import Commands
from .redis_scripts import READ
from .wire import Envelope, Position

__all__ = ["Log"]

#: Bytes of messages that one read gives, and one message more: a hundred large messages do not
#: lie in memory at once.
READ_BYTES = 1024 * 1024

#: Stands for an entry that no hub has written. It is not a message.
_FOREIGN = Envelope(b"", b"", bytes(wire.SENDER))


class Log:
    """The log of each room. Every method is for any thread."""

    def __init__(self, commands: Commands, history: History) -> None:
        self._commands = commands
        self._history = history
        #: Milliseconds for which the position of a room is known after its last message.
        self.position_kept = history.milliseconds + int(POSITION_KEPT * 1000)

    def keys(self, room: str) -> list[bytes]:
        return [self._commands.key(room, b"log"), self._commands.key(room, b"last")]

    def read(self, room: str, after: Position | None, limit: int, *, begin: bool = False) -> Missed:
        """As ``Bus.read()``, but raises what redis-py does."""
        position = ("", 0, 0) if after is None else after._replace(epoch=after.epoch or "*")
        epoch, number, time, gap, *entries = self._commands.run(
            READ,
            self.keys(room),
            *position,
            limit,
            self._history.milliseconds,
            self._history.messages,
            READ_BYTES,
            os.urandom(4).hex() if begin else "",
            self.position_kept,
        )
        epoch = epoch.decode()
        messages = [
            (Position(epoch, *map(int, entry.split(b"-"))), Envelope.decode(data) or _FOREIGN)
            for entry, data in zip(entries[::2], entries[1::2], strict=True)
        ]
        return Missed(messages, bool(gap), Position(epoch, number, time) if epoch else None)
