"""Handlers as callbacks: one for each thing that happens in a session.

They are called in the session's one thread, one after the other. What
``on_open`` returns, the *process object*, is given to all the others: the place
for what belongs to this session.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .close import CloseCode, CloseReason
from .errors import ConnectionClosed
from .session.running import FAILED, check_handler

if TYPE_CHECKING:
    from .session.session import Session

__all__ = ["Callbacks", "Listener", "callbacks"]

BinaryFormat = Literal["bytes", "memoryview", "stream"]
Callback = TypeVar("Callback", bound=Callable[..., Any])

_NAMES = ("on_open", "on_text", "on_binary", "on_close")


class Listener:
    """A handler to inherit from; an instance serves any number of sessions::

        class Chat(syncws.Listener):
            def on_open(self, session):
                return User(session)

            def on_text(self, session, user, text):
                user.say(text)

        app = syncws.WebSocketUpgrade(Chat())

    No method may be ``async`` or a generator: ``TypeError`` says so when the
    class is made. An exception in a method ends the session as a handler's
    does, with 1011.
    """

    @property
    def _session_first(self) -> Listener:
        """See ``takes_session_first()``."""
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _NAMES:
            check_handler(getattr(cls, name))

    #: How ``on_binary`` gets messages: as ``bytes``, as a ``memoryview``, or as
    #: a binary file, to be read while the message is still arriving. What it
    #: leaves unread is skipped.
    binary_format: BinaryFormat = "bytes"

    # With both kinds of Any, type checkers let it be overridden with any parameters.
    def on_open(self, session: Session, *args: Any, **parameters: Any) -> Any:
        """The session has opened; gets the URL's parameters, and gives the process object."""
        return None

    def on_text(self, session: Session, process: Any, text: str) -> None:
        """A text message. Unless overridden: closes with 1003, as RFC 6455 has it
        for a kind of data that can not be accepted."""
        _refuse(session, "text")

    def on_binary(self, session: Session, process: Any, data: Any) -> None:
        """A binary message. Unless overridden: as ``on_text()``."""
        _refuse(session, "binary")

    def on_close(self, session: Session, process: Any, reason: CloseReason) -> None:
        """The session has ended, in whatever way, after ``on_open()`` had returned."""

    def __call__(self, session: Session, **parameters: Any) -> None:
        _check_format(self.binary_format)
        process = self.on_open(session, **parameters)
        try:
            while True:
                message = _receive(session, self.binary_format)
                if isinstance(message, str):
                    self.on_text(session, process, message)
                else:
                    self.on_binary(session, process, message)
        except ConnectionClosed as exc:
            if exc.session is not session:
                session._end(FAILED)
                raise
        except BaseException:
            session._end(FAILED)
            raise
        finally:
            # The session may not be over yet: a Close was received, or sent.
            session._end(CloseReason())
            assert session._reason is not None
            self.on_close(session, process, session._reason)


class Callbacks(Listener):
    """A :class:`Listener` made of functions; see :func:`callbacks`."""

    def __init__(self, functions: dict[str, Callable[..., Any]], binary_format: Any) -> None:
        _check_format(binary_format)
        self.binary_format = binary_format
        for name, function in functions.items():
            self.set(name, function)

    def set(self, name: str, function: Callback) -> Callback:
        """Set ``on_open``, ``on_text``, ``on_binary`` or ``on_close``.

        Raises ``ValueError`` for another name, and for one that is set already.
        """
        if name not in _NAMES:
            raise ValueError(f"there is no callback {name!r}, only {', '.join(_NAMES)}")
        if name in vars(self):
            raise ValueError(f"{name} is set already, to {getattr(self, name)!r}")
        check_handler(function)
        # In place of the method: called with the same arguments.
        vars(self)[name] = function
        return function


def callbacks(
    *,
    on_open: Callable[..., Any] | None = None,
    on_text: Callable[..., Any] | None = None,
    on_binary: Callable[..., Any] | None = None,
    on_close: Callable[..., Any] | None = None,
    binary_format: BinaryFormat = "bytes",
) -> Callbacks:
    """Make a handler of functions: those of :class:`Listener`, without ``self``.

    Those left out can be set later, once, with ``Callbacks.set()``.
    """
    given = {"on_open": on_open, "on_text": on_text, "on_binary": on_binary, "on_close": on_close}
    return Callbacks({k: v for k, v in given.items() if v is not None}, binary_format)


def _receive(session: Session, binary_format: BinaryFormat) -> Any:
    if binary_format == "stream":
        file = session.receive_stream()
        return file.read() if isinstance(file, io.TextIOBase) else file
    message = session.receive()
    if binary_format == "memoryview" and isinstance(message, bytes):
        return memoryview(message)
    return message


def _refuse(session: Session, kind: str) -> None:
    session.close(CloseCode.UNSUPPORTED_DATA, f"{kind} messages are not accepted here")


def _check_format(binary_format: str) -> None:
    if binary_format not in ("bytes", "memoryview", "stream"):
        raise ValueError(
            f'binary_format is "bytes", "memoryview" or "stream", not {binary_format!r}'
        )
