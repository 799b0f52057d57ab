"""A unit of work for each message: what it takes, a database connection for one,
is held for a message and not for a session.

A unit ends when the next message is asked for, or with the handler. For the
latter a generator can not be relied on: while somebody looks at what the handler
has raised, its frame lives, and so does a generator that it has left in the
middle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from threading import get_ident
from weakref import ref

__all__ = ["messages_in_units", "units_end"]

Messages = Generator["str | bytes", None, None]

# The thread of a handler, and the iterators that the handler has made, in that order.
_iterators: ContextVar[tuple[int, list[ref[Messages]]]] = ContextVar("_iterators", default=(0, []))


def messages_in_units(
    messages: Iterable[str | bytes], unit: Callable[[], AbstractContextManager[object]]
) -> Iterator[str | bytes]:
    """A session's messages, each handled within a ``unit()``. In the handler's thread."""
    iterator = _messages(messages, unit)
    owner, iterators = _iterators.get()
    # A thread that a handler starts may inherit the handler's context (and does on a free-threaded
    # Python). The iterators that it makes are its own: the handler must not end them.
    if owner == get_ident():
        iterators[:] = [each for each in iterators if each() is not None]
        iterators.append(ref(iterator))
    return iterator


def _messages(
    messages: Iterable[str | bytes], unit: Callable[[], AbstractContextManager[object]]
) -> Messages:
    for message in messages:
        asked_for_more = False
        with unit():
            try:
                yield message
            except GeneratorExit:
                return  # the loop was left, which is no failure of the unit
            asked_for_more = True
        if not asked_for_more:
            return  # the handler has raised, and the unit takes that lightly


@contextlib.contextmanager
def units_end() -> Iterator[None]:
    """With the block, a handler's, its units end; with what it raises, if it does.
    One handler may run another."""
    iterators: list[ref[Messages]] = []
    token = _iterators.set((get_ident(), iterators))
    try:
        yield
    except BaseException as exc:  # whatever ends the handler ends its units
        _end(iterators, exc)
        raise
    else:
        _end(iterators, None)
    finally:
        _iterators.reset(token)


def _end(iterators: list[ref[Messages]], error: BaseException | None) -> None:
    """The newest first, as nested blocks end, and all of them."""
    with contextlib.ExitStack() as stack:
        for each in iterators:
            iterator = each()
            if iterator is not None:
                stack.callback(_end_one, iterator, error)


def _end_one(iterator: Messages, error: BaseException | None) -> None:
    if error is None:
        iterator.close()
        return
    try:
        iterator.throw(error)
    except StopIteration:
        pass
    except BaseException as raised:  # what is thrown in comes out again
        if raised is not error:
            raise
