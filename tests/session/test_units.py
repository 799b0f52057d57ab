"""A unit of work for each message, and when it ends."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from syncws import Session
from syncws.session.running import run_handler
from syncws.session.units import messages_in_units, units_end

from ..conftest import MakeSession
from ..support.pairs import PATIENCE, frame


class Log:
    """A log of units: when each one begins, and how it ends."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def unit(self, name: str = "unit") -> Iterator[None]:
        self.lines.append(f"{name} begins")
        try:
            yield
        except BaseException as exc:
            self.lines.append(f"{name} fails: {exc!r}")
            raise
        self.lines.append(f"{name} ends")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def session(make_session: MakeSession) -> Session:
    """A session that has received three messages."""
    return make_session(received=b"".join(frame(1, text) for text in (b"1", b"2", b"3")))[0]


def test_with_the_next_message(session: Session, log: Log) -> None:
    with units_end():
        messages = messages_in_units(session, log.unit)
        assert next(messages) == "1"
        assert log.lines == ["unit begins"]
        assert next(messages) == "2"
        assert log.lines == ["unit begins", "unit ends", "unit begins"]


def test_with_the_handler(session: Session, log: Log) -> None:
    with units_end():
        messages = messages_in_units(session, log.unit)
        next(messages)
    assert log.lines == ["unit begins", "unit ends"]
    assert next(messages, None) is None


def test_with_what_the_handler_raises(session: Session, log: Log) -> None:
    """The unit ends although the traceback is kept, and with it the frame and its iterator."""

    def handler() -> None:
        messages = messages_in_units(session, log.unit)
        next(messages)
        raise LookupError

    with pytest.raises(LookupError) as raised, units_end():
        handler()
    assert log.lines == ["unit begins", "unit fails: LookupError()"]
    assert raised.traceback


def test_a_loop_that_is_left_is_no_failure(session: Session, log: Log) -> None:
    for _ in messages_in_units(session, log.unit):
        break
    assert log.lines == ["unit begins", "unit ends"]


def test_a_handler_within_a_handler_ends_its_own(
    make_session: MakeSession, session: Session, log: Log
) -> None:
    inner, _ = make_session(received=frame(1, b"inner"), close_timeout=0.01)
    kept: list[Any] = []

    def handler(session: Session) -> None:
        kept.append(messages_in_units(session, lambda: log.unit("inner")))
        next(kept[0])

    with units_end():
        messages = messages_in_units(session, lambda: log.unit("outer"))
        next(messages)
        run_handler(inner, handler)
        assert log.lines == ["outer begins", "inner begins", "inner ends"]
        assert next(messages) == "2"


def test_nested_ones_end_in_their_order(session: Session, log: Log) -> None:
    def handler() -> None:
        names = ("first", "second", "third")
        iterators = [messages_in_units(session, partial(log.unit, name)) for name in names]
        for each in iterators:
            next(each)
        raise LookupError

    with pytest.raises(LookupError), units_end():
        handler()
    assert [line.split()[0] for line in log.lines] == [
        *("first", "second", "third"),
        *("third", "second", "first"),
    ]


def test_a_unit_that_takes_failures_lightly(session: Session, log: Log) -> None:
    """The unit suppresses the exception. The handler has still failed, and receives no other
    message."""

    def handler() -> None:
        messages = messages_in_units(session, lambda: suppress(LookupError))
        next(messages)
        raise LookupError

    with pytest.raises(LookupError), units_end():
        handler()
    assert session.receive(PATIENCE) == "2"


def test_what_a_unit_raises_at_its_end_is_raised(session: Session) -> None:
    @contextmanager
    def unit() -> Iterator[None]:
        yield
        raise ZeroDivisionError

    kept: list[Iterator[Any]] = []

    def handler() -> None:
        kept.append(messages_in_units(session, unit))
        next(kept[0])

    with pytest.raises(ZeroDivisionError), units_end():
        handler()


def test_elsewhere_nobody_ends_them(session: Session, log: Log) -> None:
    messages = messages_in_units(session, log.unit)
    next(messages)
    with units_end():
        pass
    assert log.lines == ["unit begins"]


def test_a_thread_with_the_handlers_context_has_units_of_its_own(
    session: Session, log: Log
) -> None:
    """On a free-threaded Python every thread inherits the context of the thread that starts it."""
    kept: list[Iterator[str | bytes]] = []

    def thread() -> None:
        kept.append(messages_in_units(session, log.unit))
        next(kept[0])

    with units_end():
        inherited = threading.Thread(target=contextvars.copy_context().run, args=(thread,))
        inherited.start()
        inherited.join()
    assert log.lines == ["unit begins"], "the handler's end is not the thread's"
