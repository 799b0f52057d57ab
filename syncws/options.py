"""What can be set for a session, each default with its unit, meaning and reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from .limits import Rate
from .protocol.deflate import Deflate
from .protocol.headers import Headers, check_headers
from .protocol.origins import allowed_origin

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

__all__ = [
    "Options",
    "RawRouteOptions",
    "RouteOptions",
    "SessionOptions",
    "check_seconds",
    "check_timeout",
]

Subprotocols = Sequence[str] | Callable[[Sequence[str]], str | None]


@dataclass(frozen=True)
class Options:
    """The options of a WebSocket route; one object serves all of its sessions.
    Those of a session itself are ``connect()``'s as well."""

    #: The subprotocols that the server speaks, the one it likes best first; or
    #: a function that is given those the peer offers and returns one or None.
    subprotocols: Subprotocols = ()

    #: Who may open a session from a web page. None: pages of this same host
    #: only, since a browser sends the user's cookies along with a WebSocket
    #: request of *any* page (cross-site WebSocket hijacking). A list of origins
    #: (``"https://example.com"``): those. ``"https://*.example.com"``: all subdomains of
    #: example.com. ``"null"``: local files and sandboxed pages, of anybody. ``"file://"``: local
    #: files in the browsers that say so. ``"*"``, without a list: all pages. A request without
    #: an Origin header does not come from a web page and is let in.
    origins: Sequence[str] | None = None

    #: Headers added to the 101, as pairs or as a mapping; or a function of the
    #: environ returning them.
    headers: Headers | Callable[[WSGIEnvironment], Headers] = ()

    #: The HTTP status of the answer to a malformed opening handshake.
    on_handshake_failure: int = 400

    #: The HTTP status of the answer to a request that is no WebSocket request
    #: at all; or a WSGI application that answers it.
    on_non_websocket_request: int | WSGIApplication = 501

    #: Seconds between pings, None for none. 20 is below the 30 to 60 seconds
    #: after which proxies and load balancers drop an idle connection.
    ping_interval: float | None = 20.0

    #: Seconds that a pong may take, and that a blocked write may take, before
    #: the session is terminated. With 20, a dead peer is gone within 40 seconds.
    timeout: float = 20.0

    #: Seconds that the whole closing handshake may take.
    close_timeout: float = 10.0

    #: Bytes of the largest message accepted, all fragments together; a larger
    #: one ends the session with 1009. Precedent: 1 MiB in Python's websockets.
    max_message_size: int = 1024 * 1024

    #: Bytes of the largest frame accepted; None: as max_message_size.
    max_frame_size: int | None = None

    #: None: messages are not compressed, which costs time and memory in each
    #: session. "deflate", or a Deflate with its options: they are, if the peer
    #: can (RFC 7692).
    compression: Deflate | Literal["deflate"] | None = None

    #: Whether the frames that are sent are masked. None: as RFC 6455 section
    #: 5.1 has it, by a client and not by a server. Anything else is for tests
    #: of how the peer takes it; what is received has to follow the RFC anyway.
    masking: bool | None = None

    #: How many messages a session may receive in a time, see ``Rate``. None: no limit.
    rate: Rate | None = None

    #: A function of the environ that says whose session it will be: an address, a user, an API
    #: key; anything that can be the key of a dict. None does not count. With ``max_sessions``.
    sessions_per: Callable[[WSGIEnvironment], Hashable] | None = None

    #: How many sessions each of these may have open in a process; beyond that requests are
    #: answered with 429. Routes that have the same function share the count.
    max_sessions: int | None = None

    #: Whether the handler gets a RawSession, and sees to every frame itself.
    #: Nobody pings then, and of the limits only that of a frame counts.
    raw: bool = False

    #: Whether a raw session agrees on ``compression``. False: a handler that
    #: deals with frames has to inflate them, too, and would have to know how.
    install_extensions: bool = False

    def __post_init__(self) -> None:
        check_seconds("timeout", self.timeout)
        check_seconds("close_timeout", self.close_timeout)
        _check_bytes("max_message_size", self.max_message_size)
        if self.ping_interval is not None:
            check_seconds("ping_interval", self.ping_interval)
        if self.max_frame_size is not None:
            _check_bytes("max_frame_size", self.max_frame_size)
        if self.masking not in (None, True, False):
            raise TypeError(f"masking is True, False or None, not {self.masking!r}")
        if not callable(self.subprotocols):
            object.__setattr__(self, "subprotocols", _texts("subprotocols", self.subprotocols))
        if self.compression == "deflate":
            object.__setattr__(self, "compression", Deflate())
        elif not isinstance(self.compression, Deflate | None):
            raise TypeError(
                f'compression is None, "deflate" or a Deflate, not {self.compression!r}'
            )
        self._check_limits()
        if self.install_extensions and not (self.raw and self.compression):
            raise ValueError(
                "install_extensions is for raw=True and a compression; without raw, compression "
                "is all it takes"
            )
        if self.origins is not None and self.origins != "*":
            object.__setattr__(self, "origins", _origins(self.origins))
        if not callable(self.headers):
            object.__setattr__(self, "headers", tuple(check_headers(self.headers)))
        _check_status("on_handshake_failure", self.on_handshake_failure)
        if not callable(self.on_non_websocket_request):
            _check_status("on_non_websocket_request", self.on_non_websocket_request)

    def _check_limits(self) -> None:
        if not isinstance(self.rate, Rate | None):
            raise TypeError(f"rate is a Rate, such as syncws.Rate(20), not {self.rate!r}")
        if self.rate is not None and self.raw:
            raise ValueError("rate counts messages, and a raw session has frames: count them there")
        if (self.sessions_per is None) != (self.max_sessions is None):
            raise ValueError("sessions_per and max_sessions belong together: give both, or neither")
        if self.sessions_per is not None and not callable(self.sessions_per):
            raise TypeError(f"sessions_per is a function of the environ, not {self.sessions_per!r}")
        if self.max_sessions is not None:
            if isinstance(self.max_sessions, bool) or not isinstance(self.max_sessions, int):
                raise TypeError(f"max_sessions is an int, not {self.max_sessions!r}")
            if self.max_sessions < 1:
                raise ValueError(f"max_sessions is at least 1, not {self.max_sessions!r}")


class SessionOptions(TypedDict, total=False):
    """Those of a session itself: for editors and type checkers, as the two below.
    ``Options`` says what they mean."""

    ping_interval: float | None
    timeout: float
    close_timeout: float
    max_message_size: int
    max_frame_size: int | None
    compression: Deflate | Literal["deflate"] | None
    masking: bool | None
    rate: Rate | None


class RouteOptions(SessionOptions, total=False):
    """Those of a server's route; ``raw`` is an argument of its own."""

    subprotocols: Subprotocols
    origins: Sequence[str] | None
    headers: Headers | Callable[[WSGIEnvironment], Headers]
    on_handshake_failure: int
    on_non_websocket_request: int | WSGIApplication
    sessions_per: Callable[[WSGIEnvironment], Hashable] | None
    max_sessions: int | None


class RawRouteOptions(RouteOptions, total=False):
    """Those of a route with ``raw=True``."""

    install_extensions: bool


def check_seconds(name: str, value: Any) -> None:
    """Check the value of an option in seconds: more than 0, and finite.

    Raises ``TypeError`` for anything that is not a number, ``ValueError`` for a number out of
    range.
    """
    if not 0 < _seconds(name, value) < math.inf:
        raise ValueError(f"{name} must be greater than 0, and finite, not {value!r}")


@overload
def check_timeout(name: str, value: float) -> float: ...
@overload
def check_timeout(name: str, value: float | None) -> float | None: ...
def check_timeout(name: str, value: float | None) -> float | None:
    """Check a timeout in seconds that a call was given, and return it; None stays None.

    A negative timeout counts as 0. ``math.inf`` is as good as waiting for ever. Raises
    ``TypeError`` for anything that is not a number, ``ValueError`` for NaN.
    """
    if value is None:
        return None
    seconds = _seconds(name, value)
    if math.isnan(seconds):
        raise ValueError(f"{name} is a number of seconds, not {value!r}")
    return max(0.0, seconds)


def _seconds(name: str, value: Any) -> float:
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    try:
        return float(number)
    except OverflowError:  # an int beyond every float
        return math.inf if number > 0 else -math.inf


def _check_bytes(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a number of bytes, an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be greater than 0, not {value!r}")


def _check_status(name: str, status: Any) -> None:
    if not isinstance(status, int) or not 400 <= status <= 599:
        raise ValueError(f"{name} is an HTTP status from 400 to 599, not {status!r}")


def _texts(name: str, values: Any) -> tuple[str, ...]:
    """A list of texts; an iterator is read once, here."""
    if isinstance(values, str):
        raise TypeError(f"{name} is a list of str, not a single one: use [{values!r}]")
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} is a list of str, not {values!r}")
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name} is a list of str, and {text!r} is none")
    return texts


def _origins(origins: Any) -> tuple[str, ...]:
    allowed = _texts("origins", origins)
    for origin in allowed:
        allowed_origin(origin)
    return allowed
