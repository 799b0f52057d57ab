"""The worker's threads, by themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncws.worker import pool as pool_module
from syncws.worker.pool import Pool

from ..support.background import wait_until
from ..support.pairs import PATIENCE


def names() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("test "))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Pool]]:
    monkeypatch.setattr(pool_module, "RESERVE_FOR", 0.2)
    made: list[Pool] = []

    def make(size: int) -> Pool:
        made.append(Pool(size, "test http"))
        return made[-1]

    yield make
    for pool in made:
        pool.shutdown(wait=False)


def test_runs_tasks_and_gives_their_results(make: Callable[[int], Pool]) -> None:
    pool = make(2)
    assert [f.result(PATIENCE) for f in [pool.submit(divmod, 7, n) for n in (2, 3)]] == [
        (3, 1),
        (2, 1),
    ]
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(PATIENCE)
    with pytest.raises(SystemExit):
        pool.submit(exit, 0).result(PATIENCE)
    assert pool.submit(abs, -1).result(PATIENCE) == 1


def test_a_task_that_is_cancelled_costs_no_thread(make: Callable[[int], Pool]) -> None:
    pool = make(1)
    go_on = threading.Event()
    first = pool.submit(go_on.wait, PATIENCE)
    cancelled, last = pool.submit(abs, -1), pool.submit(threading.current_thread)
    assert cancelled.cancel()
    go_on.set()
    assert first.result(PATIENCE)
    assert last.result(PATIENCE) == pool.submit(threading.current_thread).result(PATIENCE)
    assert names() == ["test http"]


def test_never_more_threads_than_its_size(make: Callable[[int], Pool]) -> None:
    pool = make(2)
    both = threading.Barrier(3)
    waiting = [pool.submit(both.wait, PATIENCE) for _ in range(2)]
    third = pool.submit(names)
    assert names() == ["test http"] * 2
    assert not third.done()
    both.wait(PATIENCE)
    assert third.result(PATIENCE) == ["test http"] * 2
    for future in waiting:
        future.result(PATIENCE)


def test_threads_are_started_only_when_none_is_free(make: Callable[[int], Pool]) -> None:
    pool = make(8)
    for _ in range(100):
        pool.submit(int).result(PATIENCE)
        # The thread counts as free a moment after its result is there.
        with pool._lock:
            pass
    assert len(names()) <= 2


def test_who_has_stepped_out_leaves_room(make: Callable[[int], Pool]) -> None:
    pool = make(1)
    stop = threading.Event()
    out = threading.Semaphore(0)

    def session() -> None:
        pool.step_out("test session")
        out.release()
        stop.wait(PATIENCE)

    sessions = [pool.submit(session) for _ in range(5)]
    for _ in sessions:
        assert out.acquire(timeout=PATIENCE)
    assert pool.submit(int).result(PATIENCE) == 0
    assert names() == ["test http"] + ["test session"] * 5
    stop.set()
    for future in sessions:
        future.result(PATIENCE)
    # All but one of them end, one after a while: the pool has its thread.
    wait_until(lambda: len(names()) == 1)
    assert pool.submit(int).result(PATIENCE) == 0


def test_there_is_at_least_one_thread() -> None:
    with pytest.raises(ValueError, match="set by --threads, not 0"):
        Pool(0, "test")


def test_who_comes_back_is_used_again(make: Callable[[int], Pool]) -> None:
    pool = make(2)
    for _ in range(200):
        pool.submit(pool.step_out, "test session").result(PATIENCE)
    assert len(names()) <= 4


def test_who_is_in_reserve_is_used_before_a_thread_is_started(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "RESERVE_FOR", PATIENCE)
    pool = make(1)
    for size in (2, 2):
        barrier = threading.Barrier(size + 1)

        def session(barrier: threading.Barrier = barrier) -> None:
            pool.step_out("test session")
            barrier.wait(PATIENCE)

        sessions = [pool.submit(session) for _ in range(size)]
        barrier.wait(PATIENCE)
        for future in sessions:
            future.result(PATIENCE)
        assert pool.submit(int).result(PATIENCE) == 0
    assert len(names()) <= 3
    pool.shutdown(wait=False)  # which ends those in reserve too, as the fixture checks


def test_the_last_thread_can_not_leave_when_there_is_no_other(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(4)
    assert pool.submit(int).result(PATIENCE) == 0

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.submit(pool.step_out, "test session").result(PATIENCE)
    assert pool.submit(int).result(PATIENCE) == 0, "it goes on with the one it has"


def test_without_any_thread_a_task_is_refused(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(4)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(int)
    assert pool.submit(int).result(PATIENCE) == 0


def test_shutdown(make: Callable[[int], Pool]) -> None:
    pool = make(1)
    go, out = threading.Event(), threading.Event()

    def session() -> None:
        pool.step_out("test session")
        out.set()
        go.wait(PATIENCE)

    stepped_out: Any = pool.submit(session)
    assert out.wait(PATIENCE)
    last = pool.submit(abs, -2)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(int)
    assert last.result(PATIENCE) == 2, "what was accepted is done"
    go.set()
    stepped_out.result(PATIENCE)
