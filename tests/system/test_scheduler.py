"""The scheduler, by itself."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from syncws.system import scheduler
from syncws.system.scheduler import Scheduler, Timed

from ..support.background import wait_until
from ..support.pairs import PATIENCE


class Alarm:
    """Notes that it was called, and when."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.called = threading.Semaphore(0)

    def on_time(self, now: float) -> None:
        self.calls.append(now)
        self.called.release()

    def wait(self) -> None:
        assert self.called.acquire(timeout=PATIENCE)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    monkeypatch.setattr(scheduler, "LINGER", 0.01)
    yield Scheduler()
    for thread in threading.enumerate():
        if thread.name == "syncws scheduler" and thread is not scheduler.SCHEDULER._thread:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the thread ends after the last member has left"


def test_calls_in_time_and_once(made: Scheduler) -> None:
    alarm = Alarm()
    made.enter(alarm)
    when = monotonic() + 0.05
    made.schedule(alarm, when)
    alarm.wait()
    assert alarm.calls[0] >= when
    made.schedule(alarm, monotonic())
    alarm.wait()
    assert len(alarm.calls) == 2
    made.leave(alarm)


def test_a_member_that_was_called_is_not_kept_alive(made: Scheduler) -> None:
    alarm, other = Alarm(), Alarm()
    made.enter(alarm)
    made.enter(other)
    made.schedule(alarm, monotonic())
    alarm.wait()
    made.leave(alarm)
    gone = weakref.ref(alarm)
    del alarm
    wait_until(lambda: gone() is None)  # the scheduler's thread has left the call
    made.leave(other)


def test_the_earlier_time_counts(made: Scheduler) -> None:
    early, late = Alarm(), Alarm()
    made.enter(early)
    made.enter(late)
    now = monotonic()
    made.schedule(early, now + 3600)
    made.schedule(early, now)
    made.schedule(early, now + 7200)
    made.schedule(late, now + 3600)
    early.wait()
    assert len(early.calls) == 1
    assert not late.calls
    made.leave(early)
    made.leave(late)


@pytest.mark.parametrize("when", [math.inf, 1e308, 1e300])
def test_an_endless_time_is_never_due_and_hides_no_other(made: Scheduler, when: float) -> None:
    alarm = Alarm()
    made.enter(alarm)
    made.schedule(alarm, when)
    made.schedule(alarm, monotonic())
    made.schedule(alarm, when)
    alarm.wait()
    made.schedule(alarm, when)
    assert len(alarm.calls) == 1
    made.leave(alarm)


@pytest.mark.parametrize("when", [-1e9, -math.inf])
def test_a_time_long_past_is_due_at_once(made: Scheduler, when: float) -> None:
    alarm = Alarm()
    made.enter(alarm)
    made.schedule(alarm, when)
    alarm.wait()
    made.leave(alarm)


def test_a_member_that_has_left_is_not_called(made: Scheduler) -> None:
    gone, stays = Alarm(), Alarm()
    made.enter(gone)
    made.enter(stays)
    soon = monotonic() + 0.05
    made.schedule(gone, soon)
    made.leave(gone)
    made.schedule(gone, soon)
    made.schedule(stays, soon)
    stays.wait()
    assert not gone.calls
    made.leave(stays)


def test_a_thread_that_has_ended_comes_back(made: Scheduler) -> None:
    for _ in range(2):
        alarm = Alarm()
        made.enter(alarm)
        thread = made._thread
        assert thread is not None
        made.schedule(alarm, monotonic())
        alarm.wait()
        made.leave(alarm)
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_many_are_called_by_one_thread(made: Scheduler) -> None:
    alarms = [Alarm() for _ in range(1000)]
    now = monotonic()
    for number, alarm in enumerate(alarms):
        made.enter(alarm)
        made.schedule(alarm, now + number / 10_000)
    for alarm in alarms:
        alarm.wait()
    assert threading.active_count() < 10
    for alarm in alarms:
        made.leave(alarm)
    assert not made._tick_of
    assert not any(made._due.values())


def test_no_thread_left(made: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            made.enter(Alarm())
    alarm = Alarm()
    made.enter(alarm)
    made.schedule(alarm, monotonic())
    alarm.wait()
    made.leave(alarm)


@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # the test needs threads
)
def test_works_in_the_child_of_a_fork() -> None:
    parents = Alarm()
    scheduler.SCHEDULER.enter(parents)
    scheduler.SCHEDULER.schedule(parents, monotonic() + 3600)
    child = os.fork()
    if child == 0:
        alarm = Alarm()
        scheduler.SCHEDULER.enter(alarm)
        scheduler.SCHEDULER.leave(parents)  # as the parent's sessions do when they are ended here
        scheduler.SCHEDULER.schedule(alarm, monotonic())
        os._exit(0 if alarm.called.acquire(timeout=PATIENCE) else 1)
    scheduler.SCHEDULER.leave(parents)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Interrupted(set[Timed]):
    """A signal handler runs while a member is taken out."""

    def __init__(self, members: set[Timed], handler: Callable[[], None]) -> None:
        super().__init__(members)
        self._handler = handler

    def discard(self, member: object) -> None:
        super().discard(member)
        handler, self._handler = self._handler, lambda: None
        handler()


def test_a_signal_handler_may_call_schedule_where_it_has_interrupted_schedule(
    made: Scheduler,
) -> None:
    alarm = Alarm()
    made.enter(alarm)
    now = monotonic()
    made.schedule(alarm, now + 1000)
    (tick,) = made._due
    made._due[tick] = Interrupted(made._due[tick], lambda: made.schedule(alarm, now + 0.05))
    made.schedule(alarm, now + 0.2)
    wait_until(lambda: len(alarm.calls) == 2)
    made.schedule(alarm, monotonic())
    wait_until(lambda: len(alarm.calls) == 3)
    made.leave(alarm)
