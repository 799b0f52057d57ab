"""Looking after a session: keepalive, standing in, deadlines, the last word.

1. *Keepalive*: a ping every ``interval`` seconds; no pong, nor any other sign
   of life, within ``timeout`` ends the session.
2. *Standing in for the handler* while it is not in ``receive()``: it computes,
   it waits for something else, it only sends. Somebody must still answer pings
   and notice a Close.
3. *Deadlines*: an end that has begun is finished in time.
4. *The last word*: the futures are resolved, outside of every lock.

While the handler is in ``receive()`` the clock's thread does all of it, in
passing: nothing there waits. As soon as something has to be waited for, and
for the callbacks of futures, which are users' code, the session gets a *ping
thread*; it ends when the handler has been back in ``receive()`` for a while.
So a session idle in ``receive()`` costs one thread and its pings. The ping
thread never waits for the peer except in ``poll()``, and wakes up only when
there is something to do.

Whoever looks after the session has the *turn*, a lock: the clock for a moment,
the ping thread as long as it runs, ``end()`` for the last word. So there is one
at a time; whoever gets it after the last word does nothing, and so nobody uses
the socket afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ..close import CloseCode, CloseReason
from ..system.logs import logger
from ..system.rarely import Rarely
from ..system.scheduler import SCHEDULER

if TYPE_CHECKING:
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending
    from .pings import Pings
    from .reader import Reader
    from .writer import Writer

__all__ = ["Pinger"]


_LOG_NO_THREAD = Rarely(60.0)

#: Seconds that a handler may be out of receive() before the ping thread reads
#: in its place: pings are answered within one second.
STAND_IN_AFTER = 0.8


_FAILED = CloseReason(CloseCode.ABNORMAL_CLOSURE, "looking after the session failed", "error")


class _Plan(NamedTuple):
    """What to wait for next, and until when at most (monotonic; None for ever)."""

    due: float | None
    #: The peer's bytes, in the handler's place.
    read: bool
    #: Room for a control frame.
    write: bool


class Pinger:
    """Looks after one session. ``interval`` and ``timeout`` may be changed by
    any thread, followed by ``Wakeup.set()``."""

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
        name: Callable[[], str],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._ending = ending
        self._pings = pings
        self._transport = transport
        self._wakeup = wakeup
        self.interval = interval
        self.timeout = timeout
        self._name = name
        self._turn = threading.Lock()
        # The ping thread, while there is one. Under the turn.
        self._thread: threading.Thread | None = None
        # Whether the last word has been spoken. Under the turn.
        self._published = False
        # Whether the clock counts this one, until the last word.
        self._started = False
        # Who is in end() with the turn.
        self._ender: threading.Thread | None = None
        self._last_ping = 0.0
        # The last sign of life: bytes received until then, and when that was.
        self._heard = 0
        self._heard_at = 0.0
        # Where in all that we send the ping lies that is waited for, and up to
        # where the peer's system had acknowledged when that was looked at last.
        self._ping_ends_at = 0
        self._acknowledged = 0
        # The reader's ``looked_at``, as it was seen last.
        self._looked_at = 0.0

    # For the session

    def start(self) -> None:
        """Make sure of the clock. Raises ``RuntimeError`` when the system has no thread left."""
        SCHEDULER.enter(self)
        self._started = True

    def opened(self) -> None:
        """The 101 is out: from now on the session is looked after."""
        self._last_ping = self._heard_at = now = monotonic()
        self._wakeup.call = self._look_soon
        SCHEDULER.schedule(self, now + min(STAND_IN_AFTER, self.interval or STAND_IN_AFTER))

    def end(self, timeout: float) -> None:
        """Have the last word, once the end is finished; after this nobody looks
        after the session any more, nor uses its socket.

        Waits for the callbacks of futures, whichever thread they run in, for
        ``timeout`` seconds at most. In any thread; in a callback it does nothing.
        """
        this = threading.current_thread()
        if this in (self._thread, self._ender) or not self._turn.acquire(timeout=timeout):
            return
        self._ender = this
        try:
            self._have_the_last_word()
        finally:
            self._ender = None
            self._turn.release()

    # With the turn

    def _look_soon(self) -> None:
        """Something has changed, and there is no ping thread."""
        SCHEDULER.schedule(self, monotonic())

    def on_time(self, now: float) -> None:
        """A look in passing, by the clock."""
        if not self._turn.acquire(blocking=False):
            return  # there is a ping thread, or nothing more to do
        handed_over = False
        try:
            if not self._published:
                handed_over = self._look(now)
        except Exception:
            logger.exception("looking after a session failed; it is terminated")
            self._ending.finish(_FAILED)
        finally:
            if not handed_over:
                self._turn.release()

    def _look(self, now: float) -> bool:
        """Do what is due; True when the turn went to a ping thread."""
        self._wakeup.clear()
        due = self._attend(now)
        if not self._ending.finished and not self._pings.due:
            plan = self._plan(due)
            due = plan.due
            if not plan.read and not plan.write:
                if due is not None:
                    SCHEDULER.schedule(self, due)
                return False
        self._thread = threading.Thread(target=self._run, name=self._name(), daemon=True)
        try:
            self._thread.start()
        except RuntimeError as exc:
            self._thread = None
            if _LOG_NO_THREAD.is_due():  # not for each session, nor each second
                logger.info("no thread to look after %s: %s", self._name(), exc)
            later = now + STAND_IN_AFTER
            SCHEDULER.schedule(self, later if due is None else min(due, later))
            return False
        return True

    def _run(self) -> None:
        """The ping thread. It got the turn from the clock, and gives it back."""
        later = None
        try:
            while True:
                self._wakeup.clear()
                due = self._attend(monotonic())
                self._pings.publish()
                if self._ending.finished:
                    break
                plan = self._plan(due)
                if not plan.read and not plan.write and not self._reader.watched:
                    # The handler is in receive() and stays there.
                    later = plan.due
                    return
                if plan.read and self._reader.unread:
                    # What the handler has read, and not come to, makes no
                    # socket readable. It may change the plan.
                    self._reader.stand_in()
                else:
                    self._wait(plan)
            self._have_the_last_word()
        except Exception:
            logger.exception("looking after a session failed; it is terminated")
            self._ending.finish(_FAILED)
        finally:
            self._wakeup.close()
            self._thread = None
            self._turn.release()
            # Not before: the clock does nothing for a session that has a thread.
            if not self._published and (self._wakeup.is_set or self._ending.finished):
                self._look_soon()  # that was after the last look
            elif later is not None:
                SCHEDULER.schedule(self, later)

    def _have_the_last_word(self) -> None:
        if not self._published:
            self._published = True
            if self._started:
                SCHEDULER.leave(self)
            self._pings.fail_all(self._ending.exception())
            self._pings.publish()
            self._ending.publish()

    def _attend(self, now: float) -> float | None:
        """Do what is due; gives the moment when something will be, None for never."""
        # Each is read once: another thread may change it meanwhile.
        end_deadline, fault_deadline = self._ending.deadline, self._reader.fault_deadline
        dues = [end_deadline, fault_deadline]
        if end_deadline is not None and now >= end_deadline:
            self._ending.finish(CloseReason())
        elif fault_deadline is not None and now >= fault_deadline:
            self._reader.fail_now()
        if self._writer.wants_room:
            stuck_until = self._writer.blocked_since + self.timeout
            if now >= stuck_until:
                self._ending.finish(
                    CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write timed out", "send_timeout")
                )
            dues.append(stuck_until)
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
            or self._reader.handler_is_behind
            or self._reader.unread
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

    def _handler_stays(self, looked_at: float) -> bool:
        """Whether the handler has been in receive() since it was looked at last."""
        stays = looked_at == self._looked_at and self._reader.busy
        self._looked_at = looked_at
        return stays

    def _plan(self, due: float | None) -> _Plan:
        now = monotonic()
        standing_in = False
        looked_at = self._reader.looked_at
        if self._handler_stays(looked_at):
            self._reader.watched = False
        # Asking to be told when the handler leaves receive() comes first, and
        # looking whether it is there second: so it cannot leave unseen. (It
        # releases a lock before it looks at the flag, and that lock is looked
        # at here, which orders the two.)
        if not self._reader.busy:
            self._reader.watched = True
            since = looked_at + STAND_IN_AFTER
            if self._ending.reason is not None:
                standing_in = True
            elif since <= now:
                # To be told when the handler comes for a moment, and leaves
                # again: with something read and not come to, or with room for
                # more. Asking for that comes before looking at the room.
                self._reader.watched = False
                standing_in = not self._reader.held_back
                if self._reader.looked_at != looked_at:
                    due = now  # it just did
            else:
                due = since if due is None else min(due, since)
        elif self._reader.watched:
            # It comes and goes: look again later, instead of being told of
            # each message. Sooner if something may have waited for long.
            overdue = looked_at + STAND_IN_AFTER <= now
            since = now + (STAND_IN_AFTER / 8 if overdue else STAND_IN_AFTER)
            due = since if due is None else min(due, since)
        return _Plan(due, standing_in, self._writer.wants_room)

    def _wait(self, plan: _Plan) -> None:
        """Wait until something is due, for a wake-up, for room, or in the
        handler's place for the peer."""
        now = monotonic()
        timeout = None if plan.due is None else min(max(0.0, plan.due - now), threading.TIMEOUT_MAX)
        wake = self._wakeup.fileno()
        if wake is None:
            # No descriptor is left to be woken through: look around often.
            timeout = min(STAND_IN_AFTER, STAND_IN_AFTER if timeout is None else timeout)
        self._transport.wait(read=plan.read, write=plan.write, timeout=timeout, wake=wake)
        if plan.write:
            self._writer.flush_control()
        if plan.read and not self._reader.busy:
            self._reader.stand_in()
