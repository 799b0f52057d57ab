"""The worker's threads, by themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
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


def submit(pool: Pool, function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Have the pool call ``function(*args)``."""
    future: Future[Any] = Future()

    def task(_: object) -> None:
        try:
            result = function(*args)
        except BaseException as exc:  # noqa: BLE001  # the future passes it on
            future.set_exception(exc)
        else:
            future.set_result(result)

    pool.submit(task, None)
    return future


def test_runs_tasks(make: Callable[[int], Pool]) -> None:
    pool = make(2)
    assert [f.result(PATIENCE) for f in [submit(pool, divmod, 7, n) for n in (2, 3)]] == [
        (3, 1),
        (2, 1),
    ]
    with pytest.raises(ZeroDivisionError):
        submit(pool, divmod, 1, 0).result(PATIENCE)
    with pytest.raises(SystemExit):
        submit(pool, exit, 0).result(PATIENCE)
    assert submit(pool, abs, -1).result(PATIENCE) == 1


def test_a_task_that_raises_costs_no_thread(
    make: Callable[[int], Pool], caplog: pytest.LogCaptureFixture
) -> None:
    pool = make(1)
    thread = submit(pool, threading.current_thread).result(PATIENCE)
    pool.submit(partial(divmod, 1), 0)
    pool.submit(exit, 0)
    assert submit(pool, threading.current_thread).result(PATIENCE) is thread
    assert caplog.text.count("a task of the pool has raised") == 2
    assert "ZeroDivisionError" in caplog.text


def test_never_more_threads_than_its_size(make: Callable[[int], Pool]) -> None:
    pool = make(2)
    both = threading.Barrier(3)
    waiting = [submit(pool, both.wait, PATIENCE) for _ in range(2)]
    third = submit(pool, names)
    assert names() == ["test http"] * 2
    assert not third.done()
    both.wait(PATIENCE)
    assert third.result(PATIENCE) == ["test http"] * 2
    for future in waiting:
        future.result(PATIENCE)


def test_threads_are_started_only_when_none_is_free(make: Callable[[int], Pool]) -> None:
    pool = make(8)
    for _ in range(100):
        submit(pool, int).result(PATIENCE)
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

    sessions = [submit(pool, session) for _ in range(5)]
    for _ in sessions:
        assert out.acquire(timeout=PATIENCE)
    assert submit(pool, int).result(PATIENCE) == 0
    assert names() == ["test http"] + ["test session"] * 5
    stop.set()
    for future in sessions:
        future.result(PATIENCE)
    # All but one of them end, one after a while: the pool has its thread.
    wait_until(lambda: len(names()) == 1)
    assert submit(pool, int).result(PATIENCE) == 0


def test_there_is_at_least_one_thread() -> None:
    with pytest.raises(ValueError, match="set by --threads, not 0"):
        Pool(0, "test")


def test_who_comes_back_is_used_again(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_RESERVE", 2)
    pool = make(2)
    for _ in range(200):
        submit(pool, pool.step_out, "test session").result(PATIENCE)
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

        sessions = [submit(pool, session) for _ in range(size)]
        barrier.wait(PATIENCE)
        for future in sessions:
            future.result(PATIENCE)
        assert submit(pool, int).result(PATIENCE) == 0
    assert len(names()) <= 3
    pool.shutdown(wait=False)  # which ends those in reserve too, as the fixture checks


def test_sessions_that_end_together_leave_their_threads_to_the_next_ones(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "RESERVE_FOR", PATIENCE)
    pool = make(1)
    number = pool_module.MAX_RESERVE + 10
    used: list[set[threading.Thread]] = []
    for _ in range(2):
        barrier = threading.Barrier(number)

        def session(barrier: threading.Barrier = barrier) -> threading.Thread:
            pool.step_out("test session")
            barrier.wait(PATIENCE)
            return threading.current_thread()

        sessions = [submit(pool, session) for _ in range(number)]
        used.append({future.result(PATIENCE) for future in sessions})
        # One is in the pool again, and the others have ended.
        wait_until(lambda: len(names()) == pool_module.MAX_RESERVE + 1)
    assert len(used[0] & used[1]) >= pool_module.MAX_RESERVE


def test_the_last_thread_can_not_leave_when_there_is_no_other(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(4)
    assert submit(pool, int).result(PATIENCE) == 0

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        submit(pool, pool.step_out, "test session").result(PATIENCE)
    assert submit(pool, int).result(PATIENCE) == 0, "it goes on with the one it has"


def test_without_any_thread_a_task_is_refused(
    make: Callable[[int], Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make(4)

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            submit(pool, int)
    assert submit(pool, int).result(PATIENCE) == 0


def test_shutdown(make: Callable[[int], Pool]) -> None:
    pool = make(1)
    go, out = threading.Event(), threading.Event()

    def session() -> None:
        pool.step_out("test session")
        out.set()
        go.wait(PATIENCE)

    stepped_out: Any = submit(pool, session)
    assert out.wait(PATIENCE)
    last = submit(pool, abs, -2)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shut down"):
        submit(pool, int)
    assert last.result(PATIENCE) == 2, "what was accepted is done"
    go.set()
    stepped_out.result(PATIENCE)
