"""Messages of this process on their way to the bus, and messages that come from it.

Without a history, the members in this process get a message at once, and the bus takes it to the
others. With a history, all members get it from the bus, in the order of the log. If the bus can
not do that, the members in this process get it at once, without an id.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict

from ..close import CloseReason, check_sendable
from ..errors import HubError
from ..protocol.prepared import PreparedMessage
from ..system.logs import logger
from . import wire
from .bus import Bus, MisuseError, RefusedError
from .history import History, to_envelope, to_message
from .members import Rooms
from .presence import Watcher
from .wire import Envelope, Position

__all__ = ["Courier"]

#: How many messages are remembered that the bus may have got although it failed. The members in
#: this process have such a message, and must not get it a second time.
UNCERTAIN = 1000


class Courier:
    """Any thread may call every method."""

    def __init__(
        self, rooms: Rooms, bus: Bus, watcher: Watcher, *, history: History | None, raises: bool
    ) -> None:
        self._rooms = rooms
        self._bus = bus
        self._watcher = watcher
        self._history = history
        self._raises = raises
        # Guards the below.
        self._lock = threading.Lock()
        self._undelivered = 0
        # By number: the messages that are being sent now, and their positions once the bus has
        # brought them back.
        self._awaited: dict[bytes, Position | None] = {}
        # By number: the tokens of the members that have got the message without an id.
        self._uncertain: OrderedDict[bytes, frozenset[bytes]] = OrderedDict()

    def send(self, room: str, message: PreparedMessage, exclude: bytes) -> str | None:
        """Send to all but the session with that token. Returns the id, if there is one."""
        envelope = to_envelope(message.data, self._history, self._bus.process, exclude)
        if self._history is None:
            self._rooms.deliver(room, message, None, frozenset([exclude]))
        else:
            try:
                return self._keep(room, envelope).id
            except HubError as exc:
                self._rooms.deliver(room, message, None, frozenset([exclude]))
                if not isinstance(exc, RefusedError):
                    self._not_published(exc)
                    return None
                # The message is not in the log. A Redis that refuses to keep it still publishes.
        self._publish(room, envelope)
        return None

    def _keep(self, room: str, envelope: Envelope) -> Position:
        self._check_size(envelope)
        number = envelope.number
        with self._lock:
            self._awaited[number] = None
        try:
            return self._bus.append(room, envelope)
        except HubError:
            # The earlier messages of this thread must be delivered first. If only the answer was
            # lost, this message is delivered with them.
            self._bus.settle()
            with self._lock:
                position = self._awaited[number]
                if position is not None:
                    return position
                self._uncertain[number] = self._rooms.tokens(room) | {envelope.exclude}
                while len(self._uncertain) > UNCERTAIN:
                    self._uncertain.popitem(last=False)
            raise
        finally:
            with self._lock:
                del self._awaited[number]

    def _publish(self, room: str, envelope: Envelope) -> None:
        try:
            self._check_size(envelope)
            self._bus.publish(room, envelope)
        except HubError as exc:
            self._not_published(exc)

    def _check_size(self, envelope: Envelope) -> None:
        if self._bus.shared and len(envelope.payload) > wire.MAX_MESSAGE_SIZE:
            raise MisuseError(
                f"a message of {len(envelope.payload)} bytes is too large for the bus, which "
                f"takes {wire.MAX_MESSAGE_SIZE}"
            )

    def _not_published(self, error: HubError) -> None:
        with self._lock:
            self._undelivered += 1
        if self._raises or isinstance(error, MisuseError):
            raise HubError(f"{error}: it reached the members in this process only") from error

    def disconnect(self, room: str, reason: CloseReason, exclude: bytes) -> None:
        """Close the sessions of all members but the one with that token."""
        self._bus.settle()  # messages sent before come before the Close
        self._rooms.close(room, reason, exclude)
        payload = json.dumps({"code": int(reason.code), "reason": reason.reason}).encode()
        self._publish(room, Envelope(wire.DISCONNECT, payload, self._bus.process, exclude=exclude))

    def arrived(self, room: str, envelope: Envelope, position: Position | None) -> None:
        """Deliver to the members in this process. The bus's thread calls this."""
        if envelope.kind == wire.PRESENCE:
            self._watcher.look(room)
        elif envelope.kind == wire.DISCONNECT:
            reason = _close_reason(envelope.payload)
            if reason is not None:
                self._rooms.close(room, reason, envelope.exclude)
        else:
            message = to_message(envelope, position, self._history)
            if message is None:
                logger.info("the hub has thrown away data for %r that is not a message", room)
                return
            has = frozenset([envelope.exclude])
            if envelope.sender == self._bus.process:
                with self._lock:
                    if envelope.number in self._awaited:
                        self._awaited[envelope.number] = position
                    has = self._uncertain.get(envelope.number, has)
            self._rooms.deliver(room, message, position, has)

    @property
    def undelivered(self) -> int:
        with self._lock:
            return self._undelivered


def _close_reason(payload: bytes) -> CloseReason | None:
    """Return the reason that another process has sent, or None if it is not valid."""
    try:
        value = json.loads(payload)
        check_sendable(value["code"], value["reason"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return CloseReason(value["code"], value["reason"])
