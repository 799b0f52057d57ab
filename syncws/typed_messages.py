"""Messages of declared types: JSON on the wire, values of your classes in the handler.

A codec turns a message into a value and back. There is one for msgspec, which takes its
structs, dataclasses and everything else it knows, and one for pydantic. Neither library is
imported before a type asks for it.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Iterator
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    Union,
    overload,
)

from .close import MAX_REASON_BYTES, CloseCode, CloseReason
from .errors import ConnectionClosedError, ConnectionClosedOK, SyncwsError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from .base import BaseSession

__all__ = ["Codec", "InvalidMessage", "TypedSession", "typed"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class InvalidMessage(SyncwsError, ValueError):
    """A message is not of the type that :func:`typed` was given.

    ``data`` is the message. ``code`` is the close code that fits: 1007 for a message that is
    not JSON, 1008 for JSON of another type (RFC 6455 section 7.4.1).
    """

    data: str | bytes
    code: int

    def __init__(self, message: str, data: str | bytes, code: int) -> None:
        super().__init__(message)
        self.data = data
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions go from process to process pickled, and copied by their ``args``.
        return type(self), (str(self), self.data, self.code)


class Codec(Protocol[T_co]):
    """Turns messages into values and back. Pass one of your own to :func:`typed` for another
    format than JSON. Its methods may be called from any thread."""

    def decode(self, message: str | bytes) -> T_co:
        """Return the value of a message. Raise ``ValueError`` if it has none;
        :class:`InvalidMessage` chooses the close code, 1008 is used otherwise."""
        ...

    def encode(self, value: Any) -> str | bytes:
        """Return the message for a value."""
        ...


class Endpoint(Protocol):
    """A session, or the peer of one in ``syncws.testing``."""

    def receive(self, timeout: float | None = None) -> str | bytes: ...
    def send(self, message: str | bytes, /) -> None: ...
    def close(self, code: int = 1000, reason: str = "") -> None: ...


OnInvalid = Literal["close", "raise"] | Callable[[InvalidMessage], object]


class TypedSession(Generic[T]):
    """A session whose messages are values of declared types; :func:`typed` makes it.

    Every method may be called from any thread; one thread at a time may receive.
    """

    #: The session itself.
    session: Any

    def __init__(self, session: Endpoint, codec: Codec[T], on_invalid: OnInvalid) -> None:
        self.session = session
        self._codec = codec
        self._on_invalid = on_invalid
        # Set once an invalid message has closed the session: what came behind it is not received.
        self._closed: CloseReason | None = None

    def __iter__(self) -> Iterator[T]:
        """Values until the session ends. Raises ``ConnectionClosedError`` if it ends badly."""
        while True:
            try:
                value = self.receive()
            except ConnectionClosedOK:
                return
            yield value

    def receive(self, timeout: float | None = None) -> T:
        """Wait for the next message and return its value.

        ``timeout`` is in seconds, for each message that is awaited. Raises what the session's
        ``receive()`` raises. For an invalid message, ``on_invalid`` decides: the session is
        closed and ``ConnectionClosedError`` raised, ``InvalidMessage`` is raised, or your
        function is called and the next message awaited.
        """
        while True:
            if self._closed is not None:
                raise self._error(self._closed)
            message = self.session.receive(timeout)
            try:
                return self._codec.decode(message)
            except InvalidMessage as exc:
                invalid = exc
            except ValueError as exc:
                invalid = InvalidMessage(str(exc), message, CloseCode.POLICY_VIOLATION)
                invalid.__cause__ = exc
            except RecursionError:
                text = "the message is nested too deeply"
                invalid = InvalidMessage(text, message, CloseCode.POLICY_VIOLATION)
            if self._on_invalid == "raise":
                raise invalid
            if self._on_invalid == "close":
                self._close(invalid)
            else:
                answer = self._on_invalid(invalid)
                if answer is not None:
                    self.send(answer)

    def send(self, value: object, timeout: float | None = None) -> None:
        """Send a value as a message. It may be of any type that the codec can encode.

        ``timeout`` is in seconds. Raises what the session's ``send()`` raises, and the codec's
        error (``TypeError``) for a value that it cannot encode.
        """
        message = self._codec.encode(value)
        if timeout is None:
            self.session.send(message)
        else:
            self.session.send(message, timeout)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the session. See ``Session.close()``."""
        self.session.close(code, reason)

    def _close(self, invalid: InvalidMessage) -> None:
        reason = str(invalid).encode("utf-8", "replace")[:MAX_REASON_BYTES]
        self._closed = CloseReason(invalid.code, reason.decode("utf-8", "ignore"), "local")
        self.session.close(self._closed.code, self._closed.reason)

    def _error(self, reason: CloseReason) -> ConnectionClosedError:
        # A test's peer has a session. A session is one.
        session: BaseSession = getattr(self.session, "session", self.session)
        return ConnectionClosedError(reason, session)


@overload
def typed(
    session: Endpoint, messages: TypeForm[T], *, on_invalid: OnInvalid = "close"
) -> TypedSession[T]: ...
@overload
def typed(
    session: Endpoint, messages: Codec[T], *, on_invalid: OnInvalid = "close"
) -> TypedSession[T]: ...
def typed(
    session: Endpoint, messages: Any, *, on_invalid: OnInvalid = "close"
) -> TypedSession[Any]:
    """Receive and send values of declared types::

        class Say(msgspec.Struct, tag=True):
            text: str

        class Move(msgspec.Struct, tag=True):
            x: int
            y: int

        for message in syncws.typed(session, Say | Move):
            if isinstance(message, Say): ...

    ``session`` is a session of a handler, of ``connect()``, or a peer of ``syncws.testing``.
    ``messages`` is the type that is received, or a :class:`Codec`: structs, dataclasses and
    other types of msgspec (``pip install 'syncws[typed]'``), or pydantic models. Dataclasses
    are sent with their name as ``type``, and a union of dataclasses is told apart by it.

    ``on_invalid`` is for a message that is not of the type. ``"close"`` closes the session with
    1007 or 1008 and the reason. ``"raise"`` raises :class:`InvalidMessage` and the session goes
    on. A function is called with the ``InvalidMessage``; what it returns is sent, except None.

    ``max_message_size`` bounds what is decoded, and too deep a nesting is invalid. Raises
    ``TypeError`` for a type that no codec can handle, and for a raw session, and ``ImportError``
    if msgspec is needed and missing.
    """
    if not hasattr(session, "receive"):
        raise TypeError(f"typed() needs a session with messages, and {session!r} has frames")
    if on_invalid not in ("close", "raise") and not callable(on_invalid):
        raise TypeError(f'on_invalid is "close", "raise" or a function, not {on_invalid!r}')
    codec = messages
    if isinstance(codec, type) or not (hasattr(codec, "decode") and hasattr(codec, "encode")):
        try:
            codec = _codec_for(codec)
        except TypeError as exc:
            if "unhashable" not in str(exc):
                raise
            codec = _make_codec(messages)  # a type with annotations that cannot be cached
    return TypedSession(session, codec, on_invalid)


def _make_codec(form: Any) -> Codec[Any]:
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and _mentions(form, pydantic.BaseModel):
        return _Pydantic(form)
    members = _members(form)
    if len(members) > 1 and all(dataclasses.is_dataclass(member) for member in members):
        return _Dataclasses(members)
    return _Msgspec(form)


#: A handler calls typed() once for each session, with the same few types.
_codec_for = functools.lru_cache(maxsize=128)(_make_codec)


def _mentions(form: Any, base: type) -> bool:
    """Whether a type is of that base, or is made of one that is."""
    if isinstance(form, type) and issubclass(form, base):
        return True
    return any(_mentions(part, base) for part in typing.get_args(form))


def _members(form: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    origin = typing.get_origin(form)
    if origin is Annotated:
        return _members(typing.get_args(form)[0])
    return typing.get_args(form) if origin in (Union, UnionType) else (form,)


def _import_msgspec() -> Any:
    try:
        import msgspec
        import msgspec.json
    except ImportError:
        raise ImportError(
            "syncws.typed() needs msgspec for this type: pip install 'syncws[typed]'"
        ) from None
    return msgspec


class _Msgspec:
    """Everything that msgspec knows."""

    def __init__(self, form: Any) -> None:
        self._msgspec = _import_msgspec()
        self._decoder = self._msgspec.json.Decoder(form)

    def decode(self, message: str | bytes) -> Any:
        return self._decode(self._decoder, message)

    def _decode(self, decoder: Any, message: str | bytes) -> Any:
        try:
            return decoder.decode(message)
        except self._msgspec.ValidationError as exc:
            raise InvalidMessage(str(exc), message, CloseCode.POLICY_VIOLATION) from exc
        except (self._msgspec.DecodeError, UnicodeError) as exc:
            text = f"the message is not JSON: {exc}"
            raise InvalidMessage(text, message, CloseCode.INVALID_DATA) from exc

    def encode(self, value: Any) -> str:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            if "type" not in names:
                fields = {name: getattr(value, name) for name in names}
                value = {"type": type(value).__name__, **fields}
        encoded: bytes = self._msgspec.json.encode(value)
        return encoded.decode()


class _Dataclasses(_Msgspec):
    """A union of dataclasses, told apart by their names."""

    def __init__(self, members: tuple[Any, ...]) -> None:
        super().__init__(Any)
        msgspec = self._msgspec
        self._decoders = {m.__name__: msgspec.json.Decoder(m) for m in members}
        if len(self._decoders) != len(members):
            raise TypeError(f"the dataclasses of a union need different names: {members}")
        for member in members:
            if any(field.name == "type" for field in dataclasses.fields(member)):
                raise TypeError(
                    f"{member.__name__} is told from the other dataclasses by its name, which is "
                    "sent as 'type': rename its field 'type'"
                )
        tagged = msgspec.defstruct("Tagged", [("type", str)])
        self._tag = msgspec.json.Decoder(tagged)

    def decode(self, message: str | bytes) -> Any:
        tag: str = self._decode(self._tag, message).type
        decoder = self._decoders.get(tag)
        if decoder is None:
            text = f"Invalid value {tag[:40]!r} - at `$.type`, expected one of {[*self._decoders]}"
            raise InvalidMessage(text, message, CloseCode.POLICY_VIOLATION)
        return self._decode(decoder, message)


class _Pydantic:
    """Pydantic's models, and all types that are made of some."""

    def __init__(self, form: Any) -> None:
        import pydantic
        import pydantic_core

        self._adapter = pydantic.TypeAdapter(form)
        self._to_json: Callable[[Any], bytes] = pydantic_core.to_json
        self._error = pydantic.ValidationError

    def decode(self, message: str | bytes) -> Any:
        try:
            return self._adapter.validate_json(message)
        except self._error as exc:
            first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            text = f"{place}: {first['msg']}" if place else first["msg"]
            malformed = first["type"] == "json_invalid"
            code = CloseCode.INVALID_DATA if malformed else CloseCode.POLICY_VIOLATION
            raise InvalidMessage(text, message, code) from exc

    def encode(self, value: Any) -> str:
        return self._to_json(value).decode()
