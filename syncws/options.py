"""The options of a session, each default with its unit, meaning and reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
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

    ``connect()`` has the options of a session too.
    """

    #: The subprotocols that the server speaks, the preferred one first. Or a function that is
    #: given the subprotocols that the peer offers, and returns one of them or None.
    subprotocols: Subprotocols = ()

    #: The web pages that may open a session. None: pages of this host only, because a browser
    #: sends the user's cookies with a WebSocket request of *any* page (cross-site WebSocket
    #: hijacking). A list: pages of these origins. In a list, ``"https://*.example.com"`` means
    #: every subdomain of example.com, ``"null"`` means local files and sandboxed pages of any
    #: author, ``"file://"`` means local files in browsers that name them so. ``"*"`` without a
    #: list: all pages. A request without an Origin header does not come from a web page and is
    #: accepted.
    origins: Sequence[str] | None = None

    #: Headers added to the 101, as pairs or as a mapping. Or a function that is given the environ
    #: and returns them.
    headers: Headers | Callable[[WSGIEnvironment], Headers] = ()

    #: The HTTP status of the answer to a malformed opening handshake.
    on_handshake_failure: int = 400

    #: The HTTP status of the answer to a request that does not ask for a WebSocket. Or a WSGI
    #: application that answers it.
    on_non_websocket_request: int | WSGIApplication = 501

    #: Seconds between pings; None sends no pings. Proxies and load balancers drop an idle
    #: connection after 30 to 60 seconds, so 20 keeps it.
    ping_interval: float | None = 20.0

    #: Seconds without a pong, or without the peer reading anything of a blocked write, before the
    #: session is terminated. A peer that reads slowly but steadily is kept. With 20, a dead peer
    #: is gone within 40 seconds.
    timeout: float = 20.0

    #: Seconds that the whole closing handshake may take.
    close_timeout: float = 10.0

    #: The size of the largest message accepted, in bytes, all fragments together. A larger message
    #: ends the session with 1009. Precedent: 1 MiB in Python's websockets.
    max_message_size: int = 1024 * 1024

    #: The size of the largest frame accepted, in bytes. None: as max_message_size.
    max_frame_size: int | None = None

    #: None: messages are not compressed, because compression costs time, and memory in each
    #: session. ``"deflate"``, or a ``Deflate`` with its options: messages are compressed if the
    #: peer supports it (RFC 7692).
    compression: Deflate | Literal["deflate"] | None = None

    #: Whether the frames that are sent are masked. None: as RFC 6455 section 5.1 demands, so a
    #: client masks and a server does not. True and False are for tests of how a peer reacts.
    #: Received frames must follow the RFC in any case.
    masking: bool | None = None

    #: How many messages a session may receive in a time, see ``Rate``. None: no limit.
    rate: Rate | None = None

    #: A function of the environ that says whose session it will be: an address, a user, an API
    #: key; anything that can be the key of a dict. None does not count. With ``max_sessions``.
    sessions_per: Callable[[WSGIEnvironment], Hashable] | None = None

    #: How many sessions each client may have open in a process. Beyond that, requests are
    #: answered with 429. Routes that have the same function share the count.
    max_sessions: int | None = None

    #: Whether the handler gets a RawSession and handles every frame itself. Then no pings are
    #: sent, and only the limit of a frame applies.
    raw: bool = False

    #: Whether a raw session agrees on ``compression``. Then the handler has to inflate the frames
    #: itself.
    install_extensions: bool = False

    #: "close": if the framework or the application refuses a web page's WebSocket (401, 403,
    #: 404, 429, 503, a redirect to a login page), the page gets a Close with a code and a reason
    #: that it can read. None: an HTTP status, of which a browser tells its page nothing.
    #: ``WebSockets(app)`` for Flask, the setting ``SYNCWS`` for Django and ``WebSocketMiddleware``
    #: have it for a whole application; ``docs/howto/browser.md`` says what it does for one route.
    refuse: Literal["close"] | None = None

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
        if self.refuse not in (None, "close"):
            raise ValueError(f'refuse is "close" or None, not {self.refuse!r}')
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
    """The options of a session itself. This class and the two below are for editors and type
    checkers; ``Options`` documents the options."""

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
    refuse: Literal["close"] | None
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
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    try:
        return float(value)
    except OverflowError:  # an int beyond every float
        return math.inf if value > 0 else -math.inf


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
