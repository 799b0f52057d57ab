"""What pool threads leave for the main thread."""

from __future__ import annotations

import threading

import pytest

from syncws.worker import outcome
from syncws.worker.outcome import Done, Ends


def test_a_result_is_returned_and_an_error_raised() -> None:
    done = Done()
    done.outcome = True
    assert done.result() is True
    assert not done.cancelled()
    done.error = LookupError("as it was told")
    with pytest.raises(LookupError, match="as it was told"):
        done.result()


def test_ends_wake_the_main_thread_when_it_waits_for_one_or_has_not_looked_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(outcome, "monotonic", lambda: now)
    ends = Ends()
    assert ends.note(), "nobody has looked yet"
    assert ends.take(at_once=False) == 1
    assert not ends.note()
    assert not ends.note()
    now += outcome.COUNT_EVERY
    assert ends.note()
    assert ends.take(at_once=True) == 3
    assert ends.note()
    assert ends.note()
    assert ends.take(at_once=False) == 2
    assert ends.take(at_once=False) == 0


def test_no_end_is_lost_between_threads() -> None:
    """Each end is taken at once, or wakes the thread that waits for it."""
    ends = Ends()
    woken = threading.Semaphore(0)

    def end() -> None:
        for _ in range(500):
            if ends.note():
                woken.release()

    threads = [threading.Thread(target=end) for _ in range(4)]
    for thread in threads:
        thread.start()
    taken = 0
    while (taken := taken + ends.take(at_once=True)) < 2000:
        assert woken.acquire(timeout=10), "nobody has woken this thread"
    for thread in threads:
        thread.join()
    assert taken == 2000
