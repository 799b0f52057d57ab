"""The steps of ``connect()``: check the arguments, reach the server, shake hands.

A redirect begins them again. Everything shares one deadline.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import HandshakeError
from ..options import Options, SessionOptions, check_timeout
from ..protocol.headers import Headers, check_headers
from ..session.frame_log import begin_frame_log, logging_transport
from ..system.logs import logger
from ..system.transport import BrokenError, DeadlineError, Transport
from ..version import __version__
from .attempt import Attempt
from .handshake import RESERVED, ClientHandshake, Opened
from .network import Address, open_tcp, open_unix, peer_address, start_tls
from .proxy import Proxy, open_through, parse_proxy, proxy_from_environment
from .redirects import for_another_server, is_same_server, redirected
from .session import ClientSession
from .url import Url, parse_url

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["USER_AGENT", "ConnectOptions", "open_session"]

USER_AGENT = f"syncws/{__version__}"

#: Options for servers and their handlers only.
_FOR_SERVERS = frozenset(
    {
        "install_extensions",
        "max_sessions",
        "on_handshake_failure",
        "on_non_websocket_request",
        "origins",
        "raw",
        "sessions_per",
    }
)

SomeSession = TypeVar("SomeSession", bound=ClientSession)


class ConnectOptions(SessionOptions, total=False):
    """The options of ``connect()``, besides the URL and the headers. ``connect()`` explains
    them."""

    subprotocols: Sequence[str] | None
    user_agent: str | None
    ssl_context: ssl.SSLContext | None
    server_hostname: str | None
    unix_path: str | os.PathLike[str] | None
    sock: socket.socket | None
    local_address: Address | None
    proxy: str | None
    redirects: int
    open_timeout: float


@dataclass(frozen=True)
class _Route:
    """How to reach the server."""

    ssl_context: ssl.SSLContext | None
    server_hostname: str | None
    unix_path: str | None
    sock: socket.socket | None
    local_address: Address | None
    #: A proxy, None for no proxy, or "env" for the environment's.
    proxy: Proxy | str | None
    user_agent: str | None


def open_session(
    kind: type[SomeSession],
    url: str,
    *,
    headers: Headers | None = None,
    subprotocols: Sequence[str] | None = None,
    user_agent: str | None = USER_AGENT,
    ssl_context: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    unix_path: str | os.PathLike[str] | None = None,
    sock: socket.socket | None = None,
    local_address: Address | None = None,
    proxy: str | None = "env",
    redirects: int = 5,
    open_timeout: float = 10.0,
    begin: Callable[[float], Attempt] = Attempt,
    **options: Unpack[SessionOptions],
) -> SomeSession:
    """Open a session of the given class. ``begin`` makes the attempt, which another thread may
    cancel. ``connect()`` explains the rest."""
    foreign = _FOR_SERVERS & options.keys()
    if foreign:
        raise TypeError(f"connect() has no option {min(foreign)!r}: it is for servers")
    seconds = _check_open_timeout(open_timeout)
    _check_redirects(redirects)
    target = parse_url(url)
    if not target.secure and (ssl_context is not None or server_hostname is not None):
        name = "ssl_context" if ssl_context is not None else "server_hostname"
        raise ValueError(f"{name} is for wss://, and the URL begins with ws://")
    offered = () if subprotocols is None else subprotocols
    if callable(offered):
        raise TypeError("subprotocols is a list of str: a function chooses on a server")
    checked = Options(subprotocols=offered, **options)
    offered = cast("tuple[str, ...]", checked.subprotocols)
    route = _Route(
        ssl_context=ssl_context,
        server_hostname=server_hostname,
        unix_path=None if unix_path is None else os.fspath(unix_path),
        sock=sock,
        local_address=_check_address(local_address),
        proxy=_check_proxy(proxy, unix_path, sock, local_address),
        user_agent=user_agent,
    )
    pairs = check_headers(() if headers is None else headers, RESERVED)
    attempt = begin(seconds)
    while True:
        handshake = ClientHandshake(target, checked, _with_agent(pairs, user_agent), offered)
        try:
            connected, address = _reach(target, route, attempt)
            try:
                session = _open(
                    kind, target, route, handshake, checked, attempt, connected, address
                )
                attempt.finish()
                return session
            except HandshakeError as exc:
                refusal = exc
        except (DeadlineError, TimeoutError) as exc:
            message = f"no session with {target.host_header} within {open_timeout} s"
            raise TimeoutError(message) from exc
        following = redirected(target, refusal) if redirects else None
        if following is None or sock is not None:
            raise refusal
        if not is_same_server(target, following):
            if unix_path is not None:
                raise refusal
            pairs = for_another_server(pairs)
            route = replace(route, server_hostname=None)
        redirects -= 1
        target = following


def _open(
    kind: type[SomeSession],
    target: Url,
    route: _Route,
    handshake: ClientHandshake,
    options: Options,
    attempt: Attempt,
    sock: socket.socket,
    address: Address | None,
) -> SomeSession:
    """Open a session over a connected socket. Closes the socket if that fails."""
    try:
        if target.secure and not isinstance(sock, ssl.SSLSocket):
            hostname = route.server_hostname or target.host
            sock = start_tls(sock, hostname, route.ssl_context, attempt)
        transport = logging_transport(sock)
        logger.debug("%s > GET %s", target.host_header, target.path)
        try:
            opened = _shake_hands(handshake, transport, attempt)
        except HandshakeError as refusal:
            logger.debug("%s < %s", target.host_header, refusal)
            raise
        session = kind(sock, address, transport, options, target, opened)
        begin_frame_log(transport, session, opened.received)
        session._prepare()
    except BaseException:
        attempt.close(sock)
        raise
    session._opened()
    return session


def _reach(target: Url, route: _Route, attempt: Attempt) -> tuple[socket.socket, Address | None]:
    """Return a socket that leads to the server, and the address that it is connected to."""
    if route.sock is not None:
        return route.sock, peer_address(route.sock)
    if route.unix_path is not None:
        return open_unix(route.unix_path, attempt), None
    proxy = route.proxy
    if proxy == "env":
        proxy = proxy_from_environment(target)
    if isinstance(proxy, Proxy):
        return open_through(proxy, target, attempt, route.local_address, route.user_agent)
    return open_tcp(target.host, target.port, attempt, route.local_address)


def _shake_hands(handshake: ClientHandshake, transport: Transport, attempt: Attempt) -> Opened:
    """The opening handshake (RFC 6455 section 4.1)."""
    try:
        transport.send(b"", handshake.request, attempt.left)
        while True:
            opened = handshake.receive_data(transport.receive(attempt.left))
            if opened is not None:
                return opened
            if attempt.passed:
                # A server that sends something all the time must not keep us here.
                raise DeadlineError("the answer took too long")
    except (DeadlineError, BrokenError) as exc:
        if handshake.refusal is not None:
            raise handshake.refusal from exc  # without the rest of its body
        if isinstance(exc, BrokenError):
            raise OSError(exc.errno, f"the connection broke: {exc}") from exc
        raise


def _with_agent(headers: list[tuple[str, str]], user_agent: str | None) -> list[tuple[str, str]]:
    """Add the User-Agent, unless the user has given that header."""
    if user_agent is None or any(name.lower() == "user-agent" for name, _ in headers):
        return headers
    return [*check_headers({"User-Agent": user_agent}), *headers]


def _check_open_timeout(open_timeout: Any) -> float:
    if open_timeout is None:
        raise TypeError("open_timeout is a number of seconds, not None: math.inf is no limit")
    seconds: float = check_timeout("open_timeout", open_timeout)
    if seconds <= 0:
        raise ValueError(f"open_timeout must be greater than 0, not {open_timeout!r}")
    return seconds


def _check_redirects(redirects: Any) -> None:
    if isinstance(redirects, bool) or not isinstance(redirects, int):
        raise TypeError(f"redirects is a number, an int, not {redirects!r}")
    if redirects < 0:
        raise ValueError(f"redirects must not be negative, as {redirects!r} is")


def _check_address(address: Any) -> Address | None:
    """Check ``local_address``."""
    if address is None:
        return None
    if not (
        isinstance(address, tuple)
        and len(address) == 2
        and isinstance(address[0], str)
        and isinstance(address[1], int)
    ):
        raise TypeError(f'local_address is a host and a port, ("192.0.2.1", 0), not {address!r}')
    return address


def _check_proxy(
    proxy: Any, unix_path: object, sock: object, local_address: object
) -> Proxy | str | None:
    """Check the arguments that say how to connect."""
    ways = {"unix_path": unix_path, "sock": sock}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) == 2:
        raise ValueError("give unix_path or sock, not both")
    if proxy is not None and not isinstance(proxy, str):
        raise TypeError('proxy is "env", the URL of a proxy, or None: a str, and this is none')
    if given and local_address is not None:
        raise ValueError(f"local_address is for connections over TCP, and there is {given[0]}")
    if given and proxy not in (None, "env"):
        raise ValueError(f"the connection is given by {given[0]}: it can not go through a proxy")
    return proxy if proxy in (None, "env") else parse_proxy(proxy)
