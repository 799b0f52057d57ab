"""Handlers as callbacks: one callback for each event of a session.

All callbacks are called in the handler's thread, one after the other. ``on_open``
returns the *process object*, which all other callbacks receive. Keep the data of
the session in it.
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
    """A base class for handlers. One instance serves any number of sessions::

        class Chat(syncws.Listener):
            def on_open(self, session):
                return User(session)

            def on_text(self, session, user, text):
                user.say(text)

        app = syncws.WebSocketUpgrade(Chat())

    No method may be ``async`` or a generator: the class statement raises
    ``TypeError`` if one is. If a method raises an exception, the session is
    closed with 1011, as with any other handler.
    """

    @property
    def _session_first(self) -> Listener:
        """See ``takes_session_first()``."""
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _NAMES:
            check_handler(getattr(cls, name))

    #: The form in which ``on_binary`` receives a message: ``bytes``, a ``memoryview``, or a
    #: binary file that can be read while the message is still arriving. The part of a
    #: file that ``on_binary`` does not read is skipped.
    binary_format: BinaryFormat = "bytes"

    # A signature with both kinds of Any lets a subclass declare any parameters.
    def on_open(self, session: Session, *args: Any, **parameters: Any) -> Any:
        """Called with the URL's parameters when the session has opened. Returns the process
        object."""
        return None

    def on_text(self, session: Session, process: Any, text: str) -> None:
        """Called for each text message. Unless you override it, it closes the session with 1003,
        the code for data of a type that can not be accepted (RFC 6455 section 7.4.1)."""
        _refuse(session, "text")

    def on_binary(self, session: Session, process: Any, data: Any) -> None:
        """Called for each binary message. Unless you override it, it closes the session with
        1003."""
        _refuse(session, "binary")

    def on_close(self, session: Session, process: Any, reason: CloseReason) -> None:
        """Called once when the session has ended, for any reason, if ``on_open()`` has
        returned."""

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
            # A Close was received or sent, but the session may not have ended yet.
            session._end(CloseReason())
            assert session._reason is not None
            self.on_close(session, process, session._reason)


class Callbacks(Listener):
    """A :class:`Listener` made from functions; see :func:`callbacks`."""

    def __init__(self, functions: dict[str, Callable[..., Any]], binary_format: Any) -> None:
        _check_format(binary_format)
        self.binary_format = binary_format
        for name, function in functions.items():
            self.set(name, function)

    def set(self, name: str, function: Callback) -> Callback:
        """Set ``on_open``, ``on_text``, ``on_binary`` or ``on_close``.

        Raises ``ValueError`` for any other name, and for a name that is already set. Raises
        ``TypeError`` if ``function`` is ``async`` or a generator.
        """
        if name not in _NAMES:
            raise ValueError(f"there is no callback {name!r}, only {', '.join(_NAMES)}")
        if name in vars(self):
            raise ValueError(f"{name} is set already, to {getattr(self, name)!r}")
        check_handler(function)
        # The function replaces the method, and is called with the same arguments.
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
    """Make a handler from functions. They take the arguments of the methods of
    :class:`Listener`, without ``self``.

    A callback that is left out can be set later, once, with ``Callbacks.set()``.
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
