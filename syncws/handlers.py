"""What a handler is, and two other shapes of it.

A handler is a plain function of a session. ``stream()`` and ``exchange()`` make
one of generators and iterators.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .close import CloseReason
from .errors import ConnectionClosed
from .session.running import FAILED, check_function, check_handler, check_unmade
from .system.logs import logger

if TYPE_CHECKING:
    from .session.raw import RawSession
    from .session.session import Session

__all__ = [
    "Handler",
    "RawHandler",
    "attributes_for_views",
    "exchange",
    "stream",
    "takes_session_first",
]

Handler = Callable[["Session"], Any]
RawHandler = Callable[["RawSession"], Any]

# The attribute of a handler that is called with the session first: the handler
# itself, since a decorator's wrapper gets a copy, and is another one.
_SESSION_FIRST = "_session_first"


def stream(function: Callable[..., Iterable[Any]]) -> Callable[..., None]:
    """Make a handler of a generator that turns messages into answers::

        @syncws.websocket
        @syncws.stream
        def shout(messages):
            for message in messages:
                yield message.upper()

    ``function`` is called with an iterator of the peer's messages, and with the
    URL's parameters; what it yields is sent as by ``Session.send()``. None is
    not sent, and a :class:`CloseReason` closes the session and ends the stream.

    The session ends when ``function`` does. When the peer closes, ``messages``
    ends, after all that was received before. What is yielded after that goes
    nowhere: the generator is closed, in its own thread.

    Raises ``TypeError`` for an ``async`` function.
    """
    check_function(function)
    check_unmade(function)

    @functools.wraps(function)
    def handler(session: Session, *args: Any, **kwargs: Any) -> None:
        _send_all(session, function(iter(session), *args, **kwargs), reads=True)

    vars(handler)[_SESSION_FIRST] = handler
    return handler


def exchange(
    *, send: Iterable[Any] | Callable[..., Iterable[Any]], receive: Callable[[Any], object]
) -> Callable[..., None]:
    """Make a handler of a source of messages and a sink for the peer's: both run
    at once, neither waits for the other.

    ``send`` is an iterable, or a function that gives one for each session; it
    is called without arguments but the URL's parameters. What comes out of it
    is sent as in :func:`stream`. ``receive`` is called with each message.

    The session ends when both have ended: the source, and the peer's messages,
    which end with its Close. It also ends when the source gives a
    :class:`CloseReason`, or when either side raises.

    The source runs in a thread of its own, and is closed there when the
    session has ended. A source that waits, on a queue for one, can not be
    interrupted from outside: it has to wait with a timeout, and to yield None
    when nothing has come, which gives the session's end a chance to be noticed.
    One that does not is given up after ``close_timeout``, with a warning.

    Raises ``TypeError`` for an ``async`` function, and for an iterator: it
    would be used up by the first session.
    """
    check_handler(receive)
    if callable(send):
        check_function(send)
    elif not isinstance(send, Iterable):
        raise TypeError(f"send is an iterable, or a function that gives one, not {send!r}")
    elif isinstance(send, Iterator):
        raise TypeError(
            f"{send!r} would be used up by the first session: give the function that makes it"
        )

    def handler(session: Session, *args: Any, **kwargs: Any) -> None:
        failures: list[BaseException] = []

        def send_all() -> None:
            try:
                _send_all(session, send(*args, **kwargs) if callable(send) else send)
            except ConnectionClosed as exc:
                if exc.session is not session:
                    failures.append(exc)
            except BaseException as exc:  # noqa: BLE001  # raised again in the handler's thread
                failures.append(exc)
            if failures:
                session._start_closing(FAILED)

        sender = threading.Thread(target=send_all, name=f"syncws source of {session}", daemon=True)
        sender.start()
        try:
            for message in session:
                receive(message)
        except ConnectionClosed as exc:
            if exc.session is not session:
                session._start_closing(FAILED)
            if not failures:
                raise
        except BaseException:
            session._start_closing(FAILED)
            raise
        finally:
            sender.join(session.close_timeout)
            if sender.is_alive():
                logger.warning(
                    "%s has ended, but its source %r goes on: let it wait with a timeout, and "
                    "yield None when nothing has come",
                    session,
                    send,
                )
        if failures:
            raise failures[0]

    # Frameworks tell routes apart by the names of their handlers.
    named = send if callable(send) else receive
    handler.__name__ = getattr(named, "__name__", exchange.__name__)
    vars(handler)[_SESSION_FIRST] = handler
    return handler


def takes_session_first(handler: Callable[..., Any]) -> bool:
    """Whether a handler is one of ours, called with the session first also where a
    framework's own are called with its request."""
    return getattr(handler, _SESSION_FIRST, None) is handler


def attributes_for_views(handler: Callable[..., Any]) -> Sequence[str]:
    """What ``functools.update_wrapper()`` is to copy to a framework's view.

    Frameworks and their extensions look for attributes of a view. A function's
    are meant for them; those of an object are its own business.
    """
    return functools.WRAPPER_UPDATES if inspect.isroutine(handler) else ()


def _send_all(session: Session, messages: Iterable[Any], *, reads: bool = False) -> None:
    """Send what a source gives, until it or the session ends, and close it. One that
    ``reads``, and has nothing to say, gets what was received before the end."""
    iterator: Iterator[Any] = iter(messages)
    close = getattr(iterator, "close", None)
    with contextlib.ExitStack() as stack:
        if callable(close):
            stack.callback(close)
        for message in iterator:
            if message is not None:
                session.send(message)
            if message is None and reads and session._unreceived:
                continue
            if isinstance(message, CloseReason) or session._reason is not None:
                return
