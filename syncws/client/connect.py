"""``connect()``: a session with a server."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..options import SessionOptions
from ..protocol.headers import Headers
from .network import Address
from .opening import USER_AGENT, open_session
from .session import ClientSession

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["connect"]


def connect(
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
    **options: Unpack[SessionOptions],
) -> ClientSession:
    """Open a session with a server::

        with syncws.connect("wss://example.com/chat") as session:
            session.send("hello")
            print(session.receive())

    ``url`` begins with ``ws://`` or ``wss://``. A user and a password in it are sent as basic
    authentication (RFC 7617).

    ``headers``: added to the request, as a mapping or as pairs: ``Origin``, ``Cookie``, …

    ``subprotocols``: offered to the server, the best first.

    ``user_agent``: the value of the ``User-Agent`` header; ``syncws/VERSION`` by default, None
    for no such header.

    ``ssl_context``: for ``wss``. Python's default context checks the server's certificate and
    name. ``server_hostname``: the name to check instead of the URL's host.

    ``unix_path``: connect to this Unix socket. ``sock``: use this connected socket; ``connect()``
    owns it from then on, and closes it if it fails. In both cases the URL gives the path and host.

    ``local_address``: the host and port to connect from; port 0 is any port.

    ``proxy``: ``"env"``, the default, reads ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and
    ``NO_PROXY`` as requests does. Otherwise a URL that begins with ``http://``, ``socks5h://``,
    ``socks5://``, ``socks4a://`` or ``socks4://``, or None for no proxy. SOCKS needs the extra
    ``proxy``.

    ``redirects``: how many redirects to follow at most, 5 by default. A redirect from ``wss``
    to ``ws`` is never followed. Another host or port gets only ``Origin``, ``User-Agent`` and
    ``Accept-Language`` of ``headers``, and not the URL's password.

    ``open_timeout``: seconds for all of this, 10 by default; ``math.inf`` for no limit.

    The other ``options`` are those of :class:`Options` for the session itself:
    ``ping_interval``, ``timeout``, ``close_timeout``, ``max_message_size``, ``max_frame_size``,
    ``compression``, ``masking`` and ``rate``.

    Raises ``HandshakeError`` if the server, or an HTTP proxy, refuses. Raises ``TimeoutError``
    after ``open_timeout``, and another ``OSError`` if there is no connection (``ssl.SSLError``
    if TLS fails). Raises ``ValueError`` or ``TypeError`` for invalid arguments, and
    ``RuntimeError`` when the system has no thread left. May be called from any thread.
    """
    return open_session(
        ClientSession,
        url,
        headers=headers,
        subprotocols=subprotocols,
        user_agent=user_agent,
        ssl_context=ssl_context,
        server_hostname=server_hostname,
        unix_path=unix_path,
        sock=sock,
        local_address=local_address,
        proxy=proxy,
        redirects=redirects,
        open_timeout=open_timeout,
        **options,
    )
