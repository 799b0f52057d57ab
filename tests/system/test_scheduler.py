"""The clock, by itself."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from time import monotonic

import pytest

from syncws.system import scheduler
from syncws.system.scheduler import Scheduler

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
            assert not thread.is_alive(), "it ends when nobody needs it any more"


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


def test_nobody_is_kept_who_has_been_called(made: Scheduler) -> None:
    alarm, other = Alarm(), Alarm()
    made.enter(alarm)
    made.enter(other)
    made.schedule(alarm, monotonic())
    alarm.wait()
    made.leave(alarm)
    gone = weakref.ref(alarm)
    del alarm
    wait_until(lambda: gone() is None)  # the clock's thread is out of the call
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


def test_who_has_left_is_not_called(made: Scheduler) -> None:
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
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # which is the point
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
