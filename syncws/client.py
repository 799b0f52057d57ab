"""``connect()``: a session from the client's side.

A client's session owns its socket: it is closed, and nothing is left of the
session, when ``close()`` returns or a ``with`` block ends; and soon after the
session has ended in any other way.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from .client_handshake import ClientHandshake, Opened
from .client_url import Url, parse_url
from .close import CloseCode, CloseReason
from .options import Options, SessionOptions, check_seconds
from .protocol.headers import Headers
from .session.session import Session
from .system.tls import make_transport
from .system.transport import (
    BrokenError,
    DeadlineError,
    Transport,
)

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Unpack

__all__ = ["ClientSession", "connect"]

#: What only makes sense for who answers requests, or for their handlers.
_FOR_SERVERS = frozenset(
    {
        "install_extensions",
        "max_sessions",
        "sessions_per",
        "on_handshake_failure",
        "on_non_websocket_request",
        "origins",
        "raw",
    }
)


class ClientSession(Session):
    """A session opened by :func:`connect`; as a context manager it is closed at
    the end of the block, with 1000, or with 1011 when the block raises.

    After the closing handshake it is the server that ends the connection (RFC
    6455 section 7.1.1): ``close()`` waits for that, too, within its timeout.

    ``environ`` has no more than ``REMOTE_ADDR`` and ``REMOTE_PORT``, the
    server's address, and ``PATH_INFO`` and ``QUERY_STRING``, as in the URL.
    ``response_headers`` are those of the server's 101, as pairs.
    """

    response_headers: list[tuple[str, str]]

    def __init__(
        self, sock: socket.socket, transport: Transport, options: Options, url: Url, opened: Opened
    ) -> None:
        environ = {"PATH_INFO": url.path, "QUERY_STRING": url.query}
        if sock.family != socket.AF_UNIX:
            host, port = sock.getpeername()[:2]
            environ.update(REMOTE_ADDR=host, REMOTE_PORT=str(port))
        super().__init__(
            transport,
            options,
            environ=environ,
            client=True,
            subprotocol=opened.subprotocol,
            deflate=opened.deflate,
            received=opened.received,
        )
        self.response_headers = opened.headers
        self._socket = sock
        # The first callback: the last word of a session is that its socket is closed.
        self.close_reason.add_done_callback(self._close_socket)

    def _end(self, reason: CloseReason, timeout: float | None = None) -> None:
        """As ``Session._end()``; and there is no server to conclude the session."""
        super()._end(reason, timeout)
        self._have_the_last_word()

    def _close_socket(self, _: Future[CloseReason]) -> None:
        """The session has ended. In whichever thread has the last word.

        The connection is shut down, so whoever reads or writes is about to
        return. Until then the descriptor must not be closed, since another
        file may get its number; but nobody is waited for without a bound.
        """
        for lock in (self._reader.read_lock, self._writer.write_lock):
            if lock.acquire(timeout=self.close_timeout):
                lock.release()
        self._socket.close()

    def __enter__(self) -> ClientSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(CloseCode.NORMAL_CLOSURE if error is None else CloseCode.INTERNAL_ERROR)


def connect(
    url: str,
    *,
    headers: Headers = (),
    subprotocols: Sequence[str] = (),
    ssl_context: ssl.SSLContext | None = None,
    unix_path: str | os.PathLike[str] | None = None,
    open_timeout: float = 10.0,
    **options: Unpack[SessionOptions],
) -> ClientSession:
    """Open a session with a server::

        with syncws.connect("wss://example.com/chat") as session:
            session.send("hello")
            print(session.receive())

    ``url`` begins with ``ws://`` or ``wss://``; a user and password in it are
    sent as HTTP's basic authentication. ``headers`` are added to the request,
    as a mapping or as pairs: ``Origin``, ``Cookie`` and so on. ``subprotocols``
    are offered, the best first. ``ssl_context`` is for ``wss``; None is Python's
    default context, which checks the server's certificate and name. With
    ``unix_path`` the connection is made to that Unix socket, and ``url`` says
    what is asked for there.

    ``open_timeout`` is the seconds that all of this may take, but for looking
    up the host's name, which has the limits of the system's resolver.
    ``options`` are those of :class:`Options` that are about the session itself:
    ``ping_interval``, ``timeout``, ``close_timeout``, ``max_message_size``,
    ``max_frame_size``, ``compression`` and ``masking``.

    Raises ``HandshakeError`` when the server does not accept, ``TimeoutError``
    after ``open_timeout``, and another ``OSError`` when there is no connection
    (``ssl.SSLError`` when TLS fails). Raises ``ValueError`` or ``TypeError`` for
    arguments that can not be, and ``RuntimeError`` when the system has no thread
    left. May be called from any thread.
    """
    foreign = _FOR_SERVERS & options.keys()
    if foreign:
        raise TypeError(f"connect() has no option {min(foreign)!r}: it is for servers")
    check_seconds("open_timeout", open_timeout)
    checked = Options(subprotocols=subprotocols, **options)
    target = parse_url(url)
    if ssl_context is not None and not target.secure:
        raise ValueError("ssl_context is for wss://, and the URL begins with ws://")
    handshake = ClientHandshake(target, checked, headers, subprotocols)
    deadline = monotonic() + open_timeout
    try:
        sock = _open_socket(target, unix_path, deadline)
    except TimeoutError as exc:
        raise _too_late(target, open_timeout) from exc
    try:
        if target.secure:
            sock = _start_tls(sock, target, ssl_context, deadline)
        transport = make_transport(sock)
        opened = _shake_hands(handshake, transport, deadline)
        session = ClientSession(sock, transport, checked, target, opened)
        session._prepare()
    except (DeadlineError, TimeoutError) as exc:
        sock.close()
        raise _too_late(target, open_timeout) from exc
    except BaseException:
        sock.close()
        raise
    session._opened()
    return session


def _too_late(url: Url, open_timeout: float) -> TimeoutError:
    return TimeoutError(f"no session with {url.host_header} within {open_timeout} s")


def _left(deadline: float) -> float:
    """Seconds until the deadline, for ``settimeout()``."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _open_socket(
    url: Url, unix_path: str | os.PathLike[str] | None, deadline: float
) -> socket.socket:
    if unix_path is not None:
        return _open_one(socket.AF_UNIX, os.fspath(unix_path), _left(deadline))
    addresses = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    while True:
        family, _, _, _, address = addresses.pop(0)
        try:
            # An address that does not answer leaves the others their share.
            return _open_one(family, address, _left(deadline) / (len(addresses) + 1))
        except OSError:
            if not addresses:
                raise


def _open_one(family: int, address: Any, timeout: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _start_tls(
    sock: socket.socket, url: Url, context: ssl.SSLContext | None, deadline: float
) -> ssl.SSLSocket:
    sock.settimeout(_left(deadline))
    context = context or ssl.create_default_context()
    return context.wrap_socket(sock, server_hostname=url.host)


def _shake_hands(handshake: ClientHandshake, transport: Transport, deadline: float) -> Opened:
    """The opening handshake (RFC 6455 section 4.1)."""
    try:
        transport.send(b"", handshake.request, max(0.0, deadline - monotonic()))
        while True:
            data = transport.receive(max(0.0, deadline - monotonic()))
            opened = handshake.receive_data(data)
            if opened is not None:
                return opened
            if monotonic() >= deadline:
                # A server that has something to say all the time shall not keep us here.
                raise DeadlineError("the answer took too long")
    except (DeadlineError, BrokenError) as exc:
        if handshake.refusal is not None:
            raise handshake.refusal from exc  # though not all of its body has come
        if isinstance(exc, BrokenError):
            raise OSError(exc.errno, f"the connection broke: {exc}") from exc
        raise
