"""The threads of the gunicorn worker: a pool for HTTP, which sessions step out of.

A request is known to ask for a WebSocket when a pool thread has parsed its head. Its session
may last for hours. A new thread for it would cost a thread's start, and a change of threads,
for each session. So the pool thread *steps out*: it runs the session and no longer counts as
one of the pool, which adds another thread if it has tasks. When the session is over, the
thread comes back if there is room, or stays in reserve for a moment.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Literal

from ..system.logs import logger

__all__ = ["Pool"]

#: Seconds that a thread stays in reserve. If sessions are short, it is soon needed again, and
#: a quarter more of them fit into a second.
RESERVE_FOR = 1.0

#: How many threads are in reserve at most. As many sessions may end together and others begin,
#: and no thread is started. They take less than a megabyte, for a second.
MAX_RESERVE = 32


class _Thread(threading.Thread):
    """A thread of a pool. A session that runs in it may last for hours, so little lies below it
    on the thread's stacks, and the thread keeps its state itself."""

    def __init__(self, pool: Pool, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._pool = pool
        #: Whether it has stepped out of the pool. For this thread only.
        self.stepped_out = False

    def run(self) -> None:
        """Run tasks until the pool does not need this thread any more."""
        while (todo := self._pool.tasks.get()) is not None:
            # The interpreter calls a method with one argument without another call of its own in
            # C, which a partial() would be.
            task, argument = todo
            try:
                task(argument)
            except BaseException:
                logger.exception("a task of the pool has raised")
            del todo, task, argument  # and what they refer to
            if not self._pool.take_back(self):
                return


class Pool:
    """Up to ``size`` threads that run tasks in order, and the threads that have stepped out.
    Every method may be called from any thread.

    The threads are daemons, so the worker can end although a handler does not.
    """

    def __init__(self, size: int, name: str) -> None:
        if size < 1:
            raise ValueError(f"HTTP needs at least one thread, set by --threads, not {size}")
        self._size = size
        self._name = name
        #: For the pool's threads. None ends a thread.
        self.tasks: SimpleQueue[tuple[Callable[[Any], object], Any] | None] = SimpleQueue()
        # For a thread in reserve: True to come back, False to end.
        self._calls: SimpleQueue[bool] = SimpleQueue()
        # Guards the four below. Held for a few instructions, or while a thread is started.
        self._lock = threading.Lock()
        self._threads = 0
        # Threads in reserve, MAX_RESERVE at most.
        self._reserve = 0
        # Threads without a task, minus tasks without a thread.
        self._free = 0
        self._shut_down = False

    def submit(self, task: Callable[[Any], object], argument: Any) -> None:
        """Have a thread call ``task(argument)``. It has to tell its result itself, and must not
        raise.

        Raises ``RuntimeError`` after ``shutdown()``, and if the pool has no thread and the
        system can not start one.
        """
        with self._lock:
            if self._shut_down:
                raise RuntimeError("the pool is shut down, and takes no more tasks")
            self._free -= 1
            try:
                self._add_thread_if_needed()
            except RuntimeError:
                if not self._threads:
                    self._free += 1
                    raise
        self.tasks.put((task, argument))

    def step_out(self, name: str) -> None:
        """Take the calling thread out of the pool until its task is over. Its name is ``name``
        for that time.

        Raises ``RuntimeError`` if it is the pool's only thread and the system can not start
        another one.
        """
        thread = threading.current_thread()
        assert isinstance(thread, _Thread)
        with self._lock:
            if self._threads == 1:
                self._add_thread()
            self._threads -= 1
            thread.stepped_out = True
            if not self._shut_down:
                with contextlib.suppress(RuntimeError):  # there are others
                    self._add_thread_if_needed()
        thread.name = name

    def shutdown(self, *, wait: Literal[False]) -> None:
        """Take no more tasks. The threads end when the tasks are done; nobody waits for that,
        since the worker has waited before, within its limits.
        """
        with self._lock:
            self._shut_down = True
            for _ in range(self._threads):
                self.tasks.put(None)
            for _ in range(self._reserve):
                self._calls.put(False)

    def _add_thread_if_needed(self) -> None:
        """Add a thread if a task has no free thread."""
        assert self._lock.locked()
        if self._free < 0 and self._threads < self._size:
            self._add_thread()

    def _add_thread(self) -> None:
        assert self._lock.locked()
        if self._reserve:
            self._reserve -= 1
            self._calls.put(True)
        else:
            _Thread(self, self._name).start()
        self._threads += 1
        self._free += 1

    def take_back(self, thread: _Thread) -> bool:
        """Take ``thread`` back after a task; False if it is not needed any more. For the thread
        itself."""
        with self._lock:
            if not thread.stepped_out:
                self._free += 1
                return True
            if self._shut_down:
                return False
            thread.stepped_out = False
            thread.name = self._name
            if self._threads < self._size:
                self._threads += 1
                self._free += 1
                return True
            if self._reserve >= MAX_RESERVE:
                return False
            self._reserve += 1
        return self._wait_in_reserve()

    def _wait_in_reserve(self) -> bool:
        """Wait for a call of the pool, which counts the thread as its own again; False if the
        thread is to end."""
        try:
            return self._calls.get(timeout=RESERVE_FOR)
        except Empty:
            with self._lock:
                try:
                    return self._calls.get_nowait()
                except Empty:
                    self._reserve -= 1
                    return False
