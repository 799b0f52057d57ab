"""A unit of work for each message: what it takes, a database connection for one,
is held for a message and not for a session.

A unit ends when the next message is asked for, or with the handler. For the
latter a generator can not be relied on: while somebody looks at what the handler
has raised, its frame lives, and so does a generator that it has left in the
middle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from .session import Session

__all__ = ["messages_in_units", "units_end"]

Messages = Generator["str | bytes", None, None]

# The iterators that the handler of this thread has made.
_iterators: ContextVar[WeakSet[Messages] | None] = ContextVar("_iterators", default=None)


def messages_in_units(
    session: Session, unit: Callable[[], AbstractContextManager[object]]
) -> Iterator[str | bytes]:
    """The session's messages, each handled within a ``unit()``. In the handler's thread."""
    iterators = _iterators.get()
    if iterators is None:
        iterators = WeakSet()
        _iterators.set(iterators)
    iterator = _messages(session, unit)
    iterators.add(iterator)
    return iterator


def _messages(session: Session, unit: Callable[[], AbstractContextManager[object]]) -> Messages:
    for message in session:
        with unit():
            try:
                yield message
            except GeneratorExit:
                return  # the loop was left, which is no failure of the unit


@contextlib.contextmanager
def units_end() -> Iterator[None]:
    """With the block, a handler's, its units end; with what it raises, if it does."""
    try:
        yield
    except BaseException as exc:
        for iterator in _take():
            with contextlib.suppress(type(exc)):
                iterator.throw(exc)
        raise
    for iterator in _take():
        iterator.close()


def _take() -> list[Messages]:
    iterators = _iterators.get()
    _iterators.set(None)
    return list(iterators or ())
