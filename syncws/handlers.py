"""The type of a handler, and two functions that make handlers.

A handler is a plain function that takes a session. ``stream()`` makes a handler
from a generator, ``exchange()`` from an iterable and a callback.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
    "decorated_by",
    "exchange",
    "stream",
    "takes_session_first",
]

Handler = Callable[["Session"], Any]
RawHandler = Callable[["RawSession"], Any]

# The attribute marks a handler that is called with the session first. Its value is the handler
# itself: a decorator's wrapper gets a copy of the attribute, but the wrapper is another object.
_SESSION_FIRST = "_session_first"


def stream(function: Callable[..., Iterable[Any]]) -> Callable[..., None]:
    """Make a handler from a generator that turns messages into answers::

        @syncws.websocket
        @syncws.stream
        def shout(messages):
            for message in messages:
                yield message.upper()

    ``function`` is called with an iterator of the peer's messages and with the
    URL's parameters. Each value that it yields is sent with ``Session.send()``.
    None is not sent. A :class:`CloseReason` closes the session and ends the stream.

    The session ends when ``function`` ends. When the peer closes, ``messages``
    first gives all messages that were received before, and then ends. A value
    that is yielded after that is not sent, and the generator is closed in the
    handler's thread.

    Raises ``TypeError`` if ``function`` is ``async``.
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
    """Make a handler from a source of messages and a function that receives the
    peer's messages. Both run at the same time, and neither waits for the other.

    ``send`` is an iterable, or a function that returns an iterable for each
    session. The function is called with the URL's parameters and nothing else.
    The values of the iterable are sent as in :func:`stream`. ``receive`` is
    called with each message of the peer.

    The session ends when the source has ended and the peer has closed. It also
    ends when the source gives a :class:`CloseReason`, or when either side raises.

    The source runs in its own thread. When the session has ended, the source is
    closed in that thread. A source that waits, for example on a queue, can not be
    interrupted from outside. Let it wait with a timeout, and yield None when the
    timeout is over: syncws then checks whether the session has ended. If the
    source does not stop within ``close_timeout`` seconds after the end, syncws
    logs a warning and no longer waits for it.

    Raises ``TypeError`` if ``send`` or ``receive`` is ``async``, and if ``send``
    is an iterator: the first session would use it up.
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

    # Frameworks use the name of a handler to tell routes apart.
    named = send if callable(send) else receive
    handler.__name__ = getattr(named, "__name__", exchange.__name__)
    vars(handler)[_SESSION_FIRST] = handler
    return handler


def takes_session_first(handler: Callable[..., Any]) -> bool:
    """Whether syncws made this handler. Such a handler is called with the session first, also in
    a framework that calls its own handlers with a request."""
    return getattr(handler, _SESSION_FIRST, None) is handler


def attributes_for_views(handler: Callable[..., Any]) -> Sequence[str]:
    """The attributes that ``functools.update_wrapper()`` copies to a framework's view.

    Frameworks and their extensions read the attributes of a view. The attributes of
    a function are meant for them; the attributes of any other object are not.
    """
    return functools.WRAPPER_UPDATES if inspect.isroutine(handler) else ()


def decorated_by(handler: Any, packages: Collection[str]) -> str | None:
    """Return the one of some packages that has a decorator on the handler; None if none has.

    A decorator is known by the module of its wrapper's code, which functools.wraps() does
    not copy.
    """
    inner = handler
    while inner is not None:
        module = str(getattr(inner, "__globals__", {}).get("__name__", ""))
        package = module.partition(".")[0]
        if package in packages:
            return package
        inner = getattr(inner, "__wrapped__", None)
    return None


def _send_all(session: Session, messages: Iterable[Any], *, reads: bool = False) -> None:
    """Send the values of a source until it or the session ends, then close the source.

    If the source ``reads`` messages and yields None, it goes on after the end of the session until
    it has taken all messages that were received before the end.
    """
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
