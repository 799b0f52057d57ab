"""The ping thread of a session: keepalive, standing in, deadlines, the last word.

1. *Keepalive*: a ping every ``interval`` seconds; no pong, nor any other sign
   of life, within ``timeout`` ends the session.
2. *Standing in for the handler* while it is not in ``receive()``: it computes,
   it waits for something else, it only sends. Somebody must still answer pings
   and notice a Close.
3. *Deadlines*: an end that has begun is finished in time.
4. *The last word*: it resolves the futures, outside of every lock, and is the
   last of the session to go.

It never waits for the peer except in ``poll()``, and wakes up only when there
is something to do. A session idle in ``receive()``, and one that only sends,
cost nothing but their pings.
"""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING

from .close import CloseCode, CloseReason

if TYPE_CHECKING:
    from .ending import Ending
    from .pings import Pings
    from .reader import Reader
    from .transport import Transport
    from .wakeup import Wakeup
    from .writer import Writer

__all__ = ["Pinger"]

logger = logging.getLogger("syncws")

#: Seconds that a handler may be out of receive() before the ping thread reads
#: in its place: pings are answered within one second.
STAND_IN_AFTER = 0.8


class Pinger:
    """Owns the ping thread. ``interval`` and ``timeout`` may be changed by any
    thread, followed by ``Wakeup.set()``."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        ending: Ending,
        pings: Pings,
        transport: Transport,
        wakeup: Wakeup,
        *,
        interval: float | None,
        timeout: float,
        name: str,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._ending = ending
        self._pings = pings
        self._transport = transport
        self._wakeup = wakeup
        self.interval = interval
        self.timeout = timeout
        #: Set once the 101 is out: nothing may be written before it.
        self.opened = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._last_ping = 0.0
        # The last sign of life: bytes received until then, and when that was.
        self._heard = 0
        self._heard_at = 0.0
        # Where in all that we send the ping lies that is waited for, and up to
        # where the peer's system had acknowledged when that was looked at last.
        self._ping_ends_at = 0
        self._acknowledged = 0
        # When the handler had last left receive(), as it was seen last.
        self._left_at = 0.0

    def start(self) -> None:
        """Start the thread. Raises ``RuntimeError`` when the system has none left."""
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, unless this is the thread itself."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._last_ping = self._heard_at = monotonic()
            while not self.opened and not self._ending.finished:
                self._wakeup.wait(min(STAND_IN_AFTER, self.interval or STAND_IN_AFTER))
                self._wakeup.clear()
            while not self._ending.finished:
                self._wakeup.clear()
                due = self._attend(monotonic())
                self._pings.publish()
                if not self._ending.finished:
                    self._wait(due)
        except Exception:
            logger.exception("the ping thread of a session failed; the session is terminated")
        finally:
            self._ending.finish(
                CloseReason(CloseCode.ABNORMAL_CLOSURE, "the ping thread failed", "error")
            )
            self._pings.fail_all(self._ending.exception())
            self._pings.publish()
            self._ending.publish()
            self._wakeup.close()

    def _attend(self, now: float) -> float | None:
        """Do what is due; gives the moment when something will be, None for never."""
        dues = [self._ending.deadline, self._reader.fault_deadline]
        if self._ending.deadline is not None and now >= self._ending.deadline:
            self._ending.finish(CloseReason())
        elif self._reader.fault_deadline is not None and now >= self._reader.fault_deadline:
            self._reader.fail_now()
        if self._ending.reason is None:
            dues.append(self._keepalive(now))
        return min((due for due in dues if due is not None), default=None)

    def _keepalive(self, now: float) -> float | None:
        interval, timeout = self.interval, self.timeout
        if interval is None:
            self._pings.forget_keepalive()
            return None
        unanswered = self._pings.oldest_keepalive()
        if unanswered is not None:
            if self._shows_life():
                self._heard = self._transport.received
                self._heard_at = now
            if now >= max(unanswered.sent_at, self._heard_at) + timeout:
                self._give_up(timeout)
                return None
        if now >= self._last_ping + interval:
            self._last_ping = now
            sent = self._transport.sent
            payload = self._pings.new()
            if not self._writer.try_ping(payload):
                # A message is being written: that has a deadline of its own.
                self._pings.forget(payload)
            elif unanswered is None:
                unanswered = self._pings.oldest_keepalive()
                self._heard = self._transport.received
                self._ping_ends_at = max(self._transport.sent, sent + 1)
                self._acknowledged = self._transport.sent - self._transport.unsent()
        due = self._last_ping + interval
        if unanswered is not None:
            due = min(due, max(unanswered.sent_at, self._heard_at) + timeout)
        return due

    def _shows_life(self) -> bool:
        """Whether the peer may be alive.

        Any byte counts, and so does one that nobody has read yet. So does
        progress with what we had sent before the ping, and it waits behind.
        """
        acknowledged = self._transport.sent - self._transport.unsent()
        arriving = self._acknowledged < acknowledged < self._ping_ends_at
        self._acknowledged = acknowledged
        return (
            arriving
            or self._transport.received != self._heard
            or self._reader.held_back
            or self._transport.readable()
        )

    def _give_up(self, timeout: float) -> None:
        reason = CloseReason(
            CloseCode.INTERNAL_ERROR, f"no pong within {timeout:g} s", "ping_timeout"
        )
        self._ending.begin(reason, monotonic())
        # Best effort: there is no waiting for the answer of a dead peer.
        self._writer.close()
        self._ending.finish(reason)

    def _handler_stays(self, left_at: float) -> bool:
        """Whether the handler has been in receive() since it was looked at last."""
        stays = left_at == self._left_at and self._reader.busy
        self._left_at = left_at
        return stays

    def _wait(self, due: float | None) -> None:
        """Wait until ``due``, for a wake-up, or in the handler's place for the peer."""
        now = monotonic()
        standing_in = False
        left_at = self._reader.left_at
        if self._handler_stays(left_at):
            self._reader.watched = False
        # Asking to be told when the handler leaves receive() comes first, and
        # looking whether it is there second: so it cannot leave unseen. (It
        # releases a lock before it looks at the flag, and that lock is looked
        # at here, which orders the two.)
        if not self._reader.busy:
            self._reader.watched = True
            since = left_at + STAND_IN_AFTER
            if self._ending.reason is not None:
                standing_in = True
            elif since <= now:
                standing_in = not self._reader.held_back
            else:
                due = since if due is None else min(due, since)
        elif self._reader.watched:
            # It comes and goes: look again later, instead of being told of
            # each message.
            since = now + STAND_IN_AFTER
            due = since if due is None else min(due, since)
        timeout = None if due is None else min(max(0.0, due - now), threading.TIMEOUT_MAX)
        wants_room = self._writer.wants_room
        if not standing_in and not wants_room:
            self._wakeup.wait(timeout)
            return
        wake = self._wakeup.fileno()
        if wake is None:
            # No descriptor is left to be woken through: look around often.
            timeout = min(STAND_IN_AFTER, STAND_IN_AFTER if timeout is None else timeout)
        self._transport.wait(read=standing_in, write=wants_room, timeout=timeout, wake=wake)
        if wants_room:
            self._writer.flush_control()
        if standing_in and not self._reader.busy:
            self._reader.stand_in()
