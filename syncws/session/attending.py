"""Attending to a session: who carries out what is due, and when.

1. *Keepalive* (``keepalive.py``).
2. *Standing in for the handler* while it is not in ``receive()``: it computes, it waits for
   something else, it only sends. Pings still have to be answered and a Close noticed.
3. *Deadlines*: an end that has begun is finished in time.
4. *Publishing the end*: a client's socket is closed, and the futures are resolved.

While the handler is in ``receive()``, the scheduler's thread does all of this in passing: nothing
there waits. When something has to be waited for, and for the callbacks of futures, which are
users' code, the session gets a *ping thread*. It ends when the handler has been back in
``receive()`` for a while. So a session that is idle in ``receive()`` costs one thread and its
pings. The ping thread waits for the peer only in ``poll()``, and wakes only for something to do.

The *attending lock* says who attends to the session: the scheduler for one look, the ping thread
while it runs, or ``end()``. Callbacks of futures run while it is held. The scheduler only tries it,
and ``end()`` waits for it with a deadline. It is taken before every other lock of the session.
After ``end()`` has published the result, nothing uses the socket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ..close import CloseCode, CloseReason
from ..system.deadline import bounded
from ..system.logs import logger
from ..system.rarely import Rarely
from ..system.scheduler import SCHEDULER
from .keepalive import Keepalive, Signs

if TYPE_CHECKING:
    from ..system.transport import Transport
    from ..system.wakeup import Wakeup
    from .ending import Ending
    from .pings import Pings
    from .reader import Reader
    from .writer import Writer

__all__ = ["Attending"]

#: Seconds that a handler may be away from receive() before the ping thread reads in its place:
#: pings are answered within one second.
STAND_IN_AFTER = 0.8

# Without threads, every session would log it once a second.
_LOG_NO_THREAD = Rarely(60.0)

_FAILED = CloseReason(CloseCode.ABNORMAL_CLOSURE, "attending to the session failed", "error")


class _Plan(NamedTuple):
    """What to wait for next, and until when at most (monotonic; None for ever)."""

    due: float | None
    #: Bytes of the peer, in the handler's place.
    read: bool
    #: Room for a frame that waits.
    write: bool


class Attending:
    """Attends to one session. After a change to ``keepalive``, call ``Wakeup.set()``."""

    __slots__ = (
        "_caught_up_at",
        "_ender",
        "_ending",
        "_keepalive",
        "_lock",
        "_name",
        "_pings",
        "_published",
        "_reader",
        "_scheduled",
        "_thread",
        "_transport",
        "_wakeup",
        "_writer",
        "release",
    )

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        ending: Ending,
        pings: Pings,
        transport: Transport,
        wakeup: Wakeup,
        *,
        keepalive: Keepalive,
        name: Callable[[], str],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._ending = ending
        self._pings = pings
        self._transport = transport
        self._wakeup = wakeup
        self._keepalive = keepalive
        self._name = name
        # See the top of the file.
        self._lock = threading.Lock()
        # The ping thread, or None. Guarded by the attending lock.
        self._thread: threading.Thread | None = None
        # Whether the end has been published. Guarded by the attending lock.
        self._published = False
        # Whether the scheduler has this session. Set before the session opens.
        self._scheduled = False
        # The thread that holds the attending lock in end(), or None.
        self._ender: threading.Thread | None = None
        # The reader's caught_up_at at the last look. Guarded by the attending lock.
        self._caught_up_at = 0.0
        #: Called once, before the end is published, to give back what the session owns. Set it
        #: before the session opens.
        self.release: Callable[[], None] | None = None

    # For the session

    def start(self) -> None:
        """Enter the scheduler. Raises ``RuntimeError`` when the system has no thread left."""
        SCHEDULER.enter(self)
        self._scheduled = True

    def opened(self) -> None:
        """The 101 has been sent: from now on the session is attended to."""
        now = monotonic()
        self._keepalive.start(now)
        self._wakeup.call = self._look_soon
        first = min(STAND_IN_AFTER, self._keepalive.interval or STAND_IN_AFTER)
        SCHEDULER.schedule(self, now + first)

    def end(self, timeout: float) -> None:
        """Publish the end, once it is finished. After this nothing attends to the session any
        more, nor uses its socket.

        Waits for the callbacks of futures, whichever thread they run in, for ``timeout`` seconds
        at most. Any thread may call it; in a callback it does nothing.
        """
        this = threading.current_thread()
        if this in (self._thread, self._ender) or not self._lock.acquire(timeout=bounded(timeout)):
            return
        self._ender = this
        try:
            self._publish()
        finally:
            self._ender = None
            self._lock.release()

    # With the attending lock

    def _look_soon(self) -> None:
        """Something has changed, and there is no ping thread."""
        SCHEDULER.schedule(self, monotonic())

    def on_time(self, now: float) -> None:
        """Look in passing. The scheduler calls this."""
        if not self._lock.acquire(blocking=False):
            return  # there is a ping thread, or the end is being published
        handed_over = False
        try:
            if not self._published:
                handed_over = self._look(now)
        except Exception:
            logger.exception("attending to a session failed; it is terminated")
            self._ending.finish(_FAILED)
        finally:
            if not handed_over:
                self._lock.release()

    def _look(self, now: float) -> bool:
        """Do what is due. Returns True when a ping thread has taken over the lock."""
        self._wakeup.clear()
        due = self._do_what_is_due(now)
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
            if _LOG_NO_THREAD.is_due():
                logger.info("no thread to look after %s: %s", self._name(), exc)
            later = now + STAND_IN_AFTER
            SCHEDULER.schedule(self, later if due is None else min(due, later))
            return False
        return True

    def _run(self) -> None:
        """The ping thread. The scheduler hands the lock over to it, and it releases the lock."""
        later = None
        try:
            while True:
                self._wakeup.clear()
                due = self._do_what_is_due(monotonic())
                self._pings.publish()
                if self._ending.finished:
                    break
                plan = self._plan(due)
                if not plan.read and not plan.write and not self._reader.absence_watched:
                    # The handler is in receive() and stays there.
                    later = plan.due
                    return
                if plan.read and self._reader.has_unparsed:
                    # Bytes that the handler has read, and not parsed, make no socket readable.
                    # Parsing them may change the plan.
                    self._reader.stand_in()
                else:
                    self._wait(plan)
            self._publish()
        except Exception:
            logger.exception("attending to a session failed; it is terminated")
            self._ending.finish(_FAILED)
        finally:
            self._wakeup.close()
            self._thread = None
            self._lock.release()
            # Only now: the scheduler does nothing for a session while the lock is held.
            if not self._published and (self._wakeup.is_set or self._ending.finished):
                self._look_soon()  # that happened after the last look
            elif later is not None:
                SCHEDULER.schedule(self, later)

    def _publish(self) -> None:
        if not self._published:
            self._published = True
            if self._scheduled:
                SCHEDULER.leave(self)
            if self._pings.outstanding:  # most sessions have none, and need no exception
                self._pings.fail_all(self._ending.exception())
            self._pings.publish()
            if self.release is not None:
                self.release()
            self._ending.publish()
            # These refer to the session, which refers to this object (see Ending). They are not
            # called any more.
            self._wakeup.call = self.release = None
            self._name = str

    def _do_what_is_due(self, now: float) -> float | None:
        """Returns the moment when the next thing is due, None for never."""
        end_at, fault_at = self._ending.deadline, self._reader.fault_deadline
        dues = [end_at, fault_at]
        if end_at is not None and now >= end_at:
            self._ending.finish(CloseReason())
        elif fault_at is not None and now >= fault_at:
            self._reader.fail_now()
        if self._writer.wants_room:
            stuck_until = self._writer.stuck_since() + self._keepalive.timeout
            if now >= stuck_until:
                self._ending.finish(
                    CloseReason(CloseCode.ABNORMAL_CLOSURE, "a write timed out", "send_timeout")
                )
            dues.append(stuck_until)
        if self._ending.reason is None:
            dues.append(self._keep_alive(now))
        return min((due for due in dues if due is not None), default=None)

    def _keep_alive(self, now: float) -> float | None:
        """Carry out the keepalive. Returns when to look again, None for never."""
        keepalive = self._keepalive
        if keepalive.interval is None:
            self._pings.forget_keepalive()
            return None
        unanswered = self._pings.oldest_keepalive()
        if (
            unanswered is not None
            and keepalive.is_dead(now, unanswered.sent_at, self._signs())
            # Its pong may have been parsed in the meantime.
            and self._pings.oldest_keepalive() is unanswered
        ):
            self._give_up()
            return None
        if keepalive.is_due(now):
            # First: while the peer has time to answer, it is not held back by what is read here.
            self._reader.read_unfinished()
            keepalive.pinging(now)
            sent = self._transport.sent
            payload = self._pings.new()
            if not self._writer.try_ping(payload):
                self._pings.forget(payload)
            elif unanswered is None:
                unanswered = self._pings.oldest_keepalive()
                keepalive.begin_waiting(self._signs(), max(self._transport.sent, sent + 1))
        return keepalive.next_look(None if unanswered is None else unanswered.sent_at)

    def _signs(self) -> Signs:
        # In the order in which bytes pass: another thread may be reading them.
        unread = (
            self._transport.readable()
            or self._reader.has_unparsed
            or self._reader.waits_for_handler
        )
        if unread and self._reader.limited and self._transport.gone(self._keepalive.timeout):
            unread = False
        return Signs(self._transport.arrived(), self._transport.acknowledged(), unread)

    def _give_up(self) -> None:
        text = f"no pong within {self._keepalive.timeout:g} s"
        reason = CloseReason(CloseCode.INTERNAL_ERROR, text, "ping_timeout")
        self._ending.begin(reason, monotonic())
        # Best effort: a dead peer's answer is not waited for.
        self._writer.close()
        self._ending.finish(reason)

    def _handler_stays(self, caught_up_at: float) -> bool:
        """Whether the handler has been in receive() since the last look."""
        stays = caught_up_at == self._caught_up_at and self._reader.busy
        self._caught_up_at = caught_up_at
        return stays

    def _plan(self, due: float | None) -> _Plan:
        now = monotonic()
        reader = self._reader
        standing_in = False
        caught_up_at = reader.caught_up_at
        # A ping that somebody waits for is answered soon: no pong lies unread for long.
        awaited = self._pings.awaited
        if self._handler_stays(caught_up_at) or awaited:
            reader.absence_watched = False
        # Asking to be woken when the handler leaves receive() comes first, and looking whether it
        # is there second: so it cannot leave unseen. (The handler releases a lock before it looks
        # at the flag, and that lock is looked at here, which orders the two.)
        if not reader.busy:
            reader.absence_watched = True
            since = caught_up_at + STAND_IN_AFTER
            if self._ending.reason is not None:
                standing_in = True
            elif since <= now or awaited:
                # Asking to be woken when the handler has been in receive() for a moment, which
                # may leave unparsed bytes, or room, comes before looking at the room.
                reader.absence_watched = False
                standing_in = not reader.waits_for_handler and (
                    reader.has_unparsed or not reader.reading_stopped
                )
                if reader.caught_up_at != caught_up_at:
                    due = now  # the handler was there just now
            else:
                due = since if due is None else min(due, since)
        elif reader.absence_watched:
            # The handler comes and goes: look again later, instead of being woken for each
            # message. Sooner if something may have waited for long.
            overdue = caught_up_at + STAND_IN_AFTER <= now
            since = now + (STAND_IN_AFTER / 8 if overdue else STAND_IN_AFTER)
            due = since if due is None else min(due, since)
        return _Plan(due, standing_in, self._writer.wants_room)

    def _wait(self, plan: _Plan) -> None:
        """Wait until something is due, for a wake-up, for room, or in the handler's place for
        the peer."""
        timeout = None if plan.due is None else bounded(plan.due - monotonic())
        wake = self._wakeup.fileno()
        if wake is None:
            # The system has no descriptor left for a wake-up: look often.
            timeout = min(STAND_IN_AFTER, STAND_IN_AFTER if timeout is None else timeout)
        self._transport.wait(read=plan.read, write=plan.write, timeout=timeout, wake=wake)
        if plan.write:
            self._writer.flush_control()
        if plan.read and not self._reader.busy:
            self._reader.stand_in()
