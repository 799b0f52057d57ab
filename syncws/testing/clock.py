"""Time for the sessions under test. The test moves it.

While a clock is in use, it replaces every ``monotonic()`` in syncws, and the
transports of the sessions under test wait until it is moved. Without a clock
nothing is replaced.
"""

from __future__ import annotations

import math
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from ..system.scheduler import SCHEDULER, TICKS
from ..system.transport import Transport
from ..system.wakeup import Wakeup

if TYPE_CHECKING:
    import socket
    from types import TracebackType

__all__ = ["Clock", "active_clock", "is_ready"]

#: Real seconds that handlers may take until they wait for their peers.
PATIENCE = 5.0
#: Real seconds between two checks of states whose changes are not notified.
LOOK_AGAIN = 0.05

_active: Clock | None = None


def active_clock() -> Clock | None:
    """The clock in use."""
    return _active


def is_ready(sock: socket.socket, events: int) -> bool:
    """Whether a wait for these events of ``poll()`` would end at once."""
    poll = select.poll()
    try:
        poll.register(sock, events)
    except ValueError:
        return True  # closed
    return bool(poll.poll(0))


class Connected(Protocol):
    """The test's end of a connection."""

    def idle(self) -> bool: ...


class UnderTest(Protocol):
    """What a clock needs to know of an application under test."""

    @property
    def peer(self) -> Connected | None: ...
    def whereabouts(self) -> str: ...


class Clock:
    """Stops time for all sessions of this process, and moves it::

        with Clock() as clock, WebSocketClient(app).connect("/chat") as peer:
            clock.advance(20)
            peer.receive_ping()

    Pings are sent, and timeouts and deadlines pass, only when the clock is
    advanced. It counts for connections that are made while it is in use, and one
    clock can be in use at a time. It does not move waits for anything but a peer:
    ``time.sleep()``, a queue, a future's ``result(timeout)``, the option ``rate``.
    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        # Guards all of the below; notified when a handler comes to wait, or ends.
        self._changed = threading.Condition()
        self._now = float(math.ceil(time.monotonic()))
        self._ticks: set[Wakeup] = set()
        self._applications: dict[UnderTest, SteeredTransport | None] = {}
        self._replaced: list[ModuleType] = []
        # What each thread has been told last.
        self._told = threading.local()

    def monotonic(self) -> float:
        """The time, in seconds, as ``time.monotonic()`` gives it."""
        self._told.now = now = self._now
        return now

    def deadline(self, timeout: float) -> float:
        """The moment when a ``timeout`` passes that this thread has computed. It counts from
        the time that the thread read last: the clock may have been moved since."""
        now: float = getattr(self._told, "now", self._now)
        return now + timeout

    def advance(self, seconds: float, *, wait: bool = True) -> None:
        """Move time at once, as if the machine had slept for ``seconds``. When this
        returns, pings that are due have been sent.

        Whatever is due several times within ``seconds`` happens once. To see a ping
        and the end of a session that does not answer it, advance twice. Time has
        steps of 1/128 s, and ``seconds`` are rounded up.

        First waits until the peers have answered everything and each handler waits
        for its peer, in ``receive()`` for example. Raises ``TimeoutError`` if a handler
        does not. With ``wait=False`` handlers may do something else.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes on, and not for ever: {seconds!r}")
        patience = time.monotonic() + PATIENCE
        with self._changed:
            while not self._at_rest(handlers=wait):
                if time.monotonic() > patience:
                    raise TimeoutError(self._complaint(handlers=wait))
                self._changed.wait(LOOK_AGAIN)
            self._now = math.ceil((self._now + seconds) * TICKS) / TICKS
            for tick in self._ticks:
                tick.set()
        _Lap(self).wait()

    def _complaint(self, *, handlers: bool) -> str:
        busy = self._busy_handlers() if handlers else []
        if not busy:
            return "a session and its peer do not stop talking"
        return (
            f"{busy[0].whereabouts()}"
            "It does not wait for its peer; use wait=False if it is not meant to."
        )

    def _at_rest(self, *, handlers: bool) -> bool:
        """Whether nothing will happen before time is moved, or the test does something."""
        before = self._traffic()
        if handlers and self._busy_handlers():
            return False
        if not all(a.peer is None or a.peer.idle() for a in self._applications):
            return False
        # Between the two looks something may have gone from one to the other.
        return before == self._traffic() and not (handlers and self._busy_handlers())

    def _traffic(self) -> list[tuple[int, int]]:
        return [
            (transport.received, transport.sent)
            for transport in self._applications.values()
            if transport is not None
        ]

    def _busy_handlers(self) -> list[UnderTest]:
        """Those who do not wait for their peers."""
        return [
            application
            for application, transport in self._applications.items()
            if transport is None or not transport.handler_waits(self._now)
        ]

    def __enter__(self) -> Clock:
        global _active
        if _active is not None:
            raise RuntimeError("another clock is in use")
        _active = self
        for name, module in list(sys.modules.items()):
            ours = name.startswith("syncws.") and not name.startswith("syncws.testing.")
            if ours and vars(module).get("monotonic") is time.monotonic:
                self._replaced.append(module)
                vars(module)["monotonic"] = self.monotonic
        SCHEDULER.look()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global _active
        _active = None
        for module in self._replaced:
            vars(module)["monotonic"] = time.monotonic
        self._replaced.clear()
        SCHEDULER.look()

    # For the application's side

    def enter(self, application: UnderTest) -> None:
        """An application under test begins."""
        with self._changed:
            self._applications[application] = None

    def leave(self, application: UnderTest) -> None:
        """It has ended."""
        with self._changed:
            del self._applications[application]
            self._changed.notify_all()

    def transport(self, application: UnderTest, sock: socket.socket) -> Transport:
        """The transport for an application's session. In the handler's thread."""
        transport = SteeredTransport(sock, self)
        with self._changed:
            self._applications[application] = transport
        return transport

    def look_again(self) -> None:
        """A peer has done something."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def tick(self) -> Iterator[Wakeup]:
        """What becomes readable whenever time has been moved."""
        tick = Wakeup()
        with self._changed:
            self._ticks.add(tick)
        try:
            yield tick
        finally:
            with self._changed:
                self._ticks.remove(tick)
            tick.close()

    @contextmanager
    def waiting(self, transport: SteeredTransport, wait: tuple[int, float]) -> Iterator[None]:
        """The handler waits meanwhile."""
        with self._changed:
            transport.handlers_wait = wait
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                transport.handlers_wait = None


class _Lap:
    """Waits until the sessions' clock has done what was due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done = threading.Event()
        self._laps = 0

    def wait(self) -> None:
        SCHEDULER.enter(self)
        self._go_on()
        SCHEDULER.look()
        assert self._done.wait(PATIENCE), "the sessions' clock does not run"
        SCHEDULER.leave(self)

    def _go_on(self) -> None:
        SCHEDULER.schedule(self, self._clock.monotonic())

    def on_time(self, now: float) -> None:
        # The first time others may come after this, the second time nobody does.
        self._laps += 1
        if self._laps < 2:
            self._go_on()
        else:
            self._done.set()


class SteeredTransport(Transport):
    """A transport whose deadlines are a clock's."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        super().__init__(sock)
        self._clock = clock
        self._handlers_thread = threading.get_ident()
        #: What the handler waits for, while it does: events of poll(), and until
        #: when. Guarded by the clock's lock.
        self.handlers_wait: tuple[int, float] | None = None

    def handler_waits(self, now: float) -> bool:
        """Whether the handler waits, and nothing is there that ends its wait."""
        if self.handlers_wait is None:
            return False
        events, until = self.handlers_wait
        return until > now and not is_ready(self._sock, events)

    def receive(self, timeout: float | None, missing: int = 0) -> bytes:
        # For ever, too, is waited for in wait(): what arrives is read when
        # the handler is no longer said to wait.
        return super().receive(math.inf if timeout is None else timeout, missing)

    def wait(
        self,
        *,
        read: bool = False,
        write: bool = False,
        timeout: float | None,
        wake: int | None = None,
    ) -> bool:
        fd = self._sock.fileno()
        if fd < 0 or (timeout is not None and timeout <= 0):
            return super().wait(read=read, write=write, timeout=timeout, wake=wake)
        until = self._clock.deadline(math.inf if timeout is None else timeout)
        by_handler = threading.get_ident() == self._handlers_thread
        poll = select.poll()
        events = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
        if events:
            poll.register(fd, events)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        with self._clock.tick() as tick:
            ticks = tick.fileno()
            assert ticks is not None, "there is no descriptor left"
            poll.register(ticks, select.POLLIN)
            with self._clock.waiting(self, (events, until)) if by_handler else nullcontext():
                # Time that was moved before there was a tick is seen here.
                while self._clock.monotonic() < until:
                    if any(ready != ticks for ready, _ in poll.poll()):
                        return True
                    tick.clear()
        return super().wait(read=read, write=write, timeout=0, wake=wake)
