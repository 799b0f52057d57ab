"""A unit of work for each message. It holds its resources, for example a database
connection, while one message is handled, not for the whole session.

A unit ends when the handler asks for the next message, or when the handler ends. The
end of the handler does not close its generator: while anybody keeps the traceback of
the handler's exception, the handler's frame lives, and so does the generator in it.
``units_end()`` therefore ends the units explicitly.
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

# The thread of a handler, and the iterators that the handler has made, oldest first.
_iterators: ContextVar[tuple[int, list[ref[Messages]]]] = ContextVar("_iterators", default=(0, []))


def messages_in_units(
    messages: Iterable[str | bytes], unit: Callable[[], AbstractContextManager[object]]
) -> Iterator[str | bytes]:
    """Iterate over messages, and keep a ``unit()`` open while each one is handled. The handler's
    thread calls this."""
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
                return  # The handler left the loop. The unit ends without an error.
            asked_for_more = True
        if not asked_for_more:
            return  # The handler raised, and the unit suppressed the exception.


class units_end:  # noqa: N801  # it is used as a function is
    """Run a handler inside this block: its units end with the block.

    If the block raises, the units end with the same exception. Blocks may be nested, since one
    handler may run another. A generator with ``contextlib.contextmanager()`` would take more of
    each session's memory.
    """

    __slots__ = ("_ours", "_token")

    def __enter__(self) -> None:
        self._ours: list[ref[Messages]] = []
        self._token = _iterators.set((get_ident(), self._ours))

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # Every exception that ends the handler ends its units.
        try:
            _end(self._ours, error)
        finally:
            _iterators.reset(self._token)


def _end(iterators: list[ref[Messages]], error: BaseException | None) -> None:
    """End all units, the newest first, as nested blocks end. An error in one does not keep the
    others open."""
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
    except BaseException as raised:  # The generator usually raises the same exception again.
        if raised is not error:
            raise
