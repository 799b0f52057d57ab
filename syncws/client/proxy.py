"""Through a proxy: which one, and a tunnel to the server (HTTP CONNECT, SOCKS 4 and 5).

h11 speaks HTTP with the proxy. python-socks speaks SOCKS; it is imported when it is needed.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import h11

from ..errors import HandshakeError
from ..protocol.headers import ResponseHeaders
from .attempt import Attempt
from .network import Address, look_up, open_tcp
from .url import Url

__all__ = ["Proxy", "open_through", "parse_proxy", "proxy_from_environment"]

_DEFAULT_PORTS = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

#: The proxy resolves the server's name with these, and we do with the other kinds of SOCKS.
_RESOLVES_ITSELF = frozenset({"socks4a", "socks5h"})

#: RFC 1928 section 6: the proxy's rules forbid the connection.
_NOT_ALLOWED = 2


@dataclass(frozen=True)
class Proxy:
    """The parts of a proxy's URL."""

    scheme: str
    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.scheme}://{self.host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """Return the parts of a proxy's URL.

    Raises ``ValueError`` if it is not one. The message does not repeat the URL, which may
    contain a password.
    """
    if "://" not in url:  # as curl and requests read HTTPS_PROXY=proxy.example.com:3128
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ValueError(f"the URL of the proxy is not valid: {exc}") from None
    if parts.scheme == "https":
        raise ValueError(
            "the URL of the proxy begins with https://, and TLS to the proxy itself is not "
            "supported: write http:// if the proxy takes that. The session of a wss:// URL has TLS "
            "all the way through the proxy"
        )
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(
            f"the URL of the proxy begins with http://, socks5h://, socks5://, socks4a:// or "
            f"socks4://, not with {parts.scheme!r}"
        )
    if not parts.hostname:
        raise ValueError("the URL of the proxy has no host")
    return Proxy(
        parts.scheme,
        parts.hostname,
        _DEFAULT_PORTS[parts.scheme] if port is None else port,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def proxy_from_environment(url: Url) -> Proxy | None:
    """Return the proxy that the environment names for a URL, None for none.

    The variables are those of curl and requests: ``HTTPS_PROXY`` and ``ALL_PROXY``, for ``ws``
    also ``HTTP_PROXY``, and ``NO_PROXY``. A WebSocket needs CONNECT, which many proxies for
    plain HTTP refuse. So ``HTTPS_PROXY`` is preferred for ``ws`` as well (RFC 6455 section 4.1).
    """
    from urllib.request import getproxies, proxy_bypass  # takes long to import

    proxies = getproxies()
    schemes = ["wss", "https", "all"] if url.secure else ["ws", "https", "http", "all"]
    found = next((proxies[scheme] for scheme in schemes if proxies.get(scheme)), None)
    if found is None or proxy_bypass(url.host) or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    if _in_a_network(url.host, proxies.get("no", "")):
        return None
    return parse_proxy(found)


def _in_a_network(host: str, names: str) -> bool:
    """Whether a host is an address in one of the networks of ``NO_PROXY``."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in names.split(","):
        try:
            if address in ipaddress.ip_network(name.strip(), strict=False):
                return True
        except ValueError:
            continue  # a name
    return False


def open_through(
    proxy: Proxy,
    url: Url,
    attempt: Attempt,
    local_address: Address | None,
    user_agent: str | None,
) -> tuple[socket.socket, Address]:
    """Open a tunnel to the server of a URL. Return the socket, and the proxy's address.

    Raises ``HandshakeError`` if an HTTP proxy refuses, and ``OSError`` if a SOCKS proxy does:
    ``PermissionError`` if it wants other credentials, or its rules forbid the connection.
    """
    sock, address = open_tcp(proxy.host, proxy.port, attempt, local_address)
    try:
        if proxy.scheme == "http":
            _connect_http(sock, proxy, url, attempt, user_agent)
        else:
            _connect_socks(sock, proxy, url, attempt)
    except BaseException:
        attempt.close(sock)
        raise
    return sock, address


def _connect_http(
    sock: socket.socket, proxy: Proxy, url: Url, attempt: Attempt, user_agent: str | None
) -> None:
    """Ask an HTTP proxy for a tunnel (RFC 9110 section 9.3.6)."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    target = f"{host}:{url.port}"
    headers = [("Host", target)]
    if user_agent is not None:
        headers.append(("User-Agent", user_agent))
    if proxy.username is not None:
        credentials = f"{proxy.username}:{proxy.password or ''}".encode()
        encoded = base64.b64encode(credentials).decode("ascii")
        headers.append(("Proxy-Authorization", f"Basic {encoded}"))
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="CONNECT", target=target, headers=headers)
    attempt.limit(sock)
    sock.sendall(connection.send(request) + connection.send(h11.EndOfMessage()))
    while True:
        attempt.limit(sock)
        data = sock.recv(4096)
        if not data:
            raise ConnectionResetError(f"{proxy} closed the connection without an answer")
        connection.receive_data(data)
        try:
            event = connection.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = connection.next_event()
        except h11.RemoteProtocolError as exc:
            raise ConnectionError(f"{proxy} does not speak HTTP: {exc}") from exc
        if isinstance(event, h11.Response):
            break
    if not 200 <= event.status_code < 300:
        answered = ResponseHeaders(
            (name.decode("ascii"), value.decode("latin-1"))
            for name, value in event.headers.raw_items()
        )
        message = f"{proxy} answered with status {event.status_code} to CONNECT {target}"
        if event.status_code == 407:
            message += ": put the right user and password into its URL"
        raise HandshakeError(event.status_code, answered, b"", message)
    if connection.trailing_data[0]:
        raise ConnectionError(f"{proxy} sent data before the server was asked for anything")


def _connect_socks(sock: socket.socket, proxy: Proxy, url: Url, attempt: Attempt) -> None:
    """Ask a SOCKS proxy for a tunnel (RFC 1928)."""
    try:
        import python_socks
        from python_socks.sync import Proxy as Socks
    except ImportError:
        raise RuntimeError("SOCKS proxies need python-socks: pip install 'syncws[proxy]'") from None
    host = url.host
    if proxy.scheme not in _RESOLVES_ITSELF:
        host = _resolve(proxy, url, attempt)
    kind = python_socks.ProxyType.SOCKS5 if "5" in proxy.scheme else python_socks.ProxyType.SOCKS4
    # To connect through another proxy is python-socks's way to take a connection from us.
    forward: Any = _Connected(sock, attempt)
    socks = Socks(
        kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True, forward=forward
    )
    try:
        socks.connect(host, url.port)
    except python_socks.ProxyTimeoutError as exc:
        raise TimeoutError(str(exc)) from exc
    except python_socks.ProxyError as exc:
        message = f"{proxy} refused: {exc}"
        # python-socks has no code for a refused password, only a text.
        if exc.error_code == _NOT_ALLOWED or "authentication" in str(exc).lower():
            raise PermissionError(message) from exc
        raise ConnectionError(message) from exc


def _resolve(proxy: Proxy, url: Url, attempt: Attempt) -> str:
    families = [socket.AF_INET] if proxy.scheme == "socks4" else [socket.AF_INET, socket.AF_INET6]
    for family, _, _, _, address in look_up(url.host, url.port, attempt):
        if family in families:
            return str(address[0])
    raise OSError(f"{url.host} has no address that {proxy} can take")


class _Connected:
    """The connection to the proxy as python-socks uses it, with our deadline on each call."""

    def __init__(self, sock: socket.socket, attempt: Attempt) -> None:
        self._sock = sock
        self._attempt = attempt

    def connect(self, **_: Any) -> _Connected:
        return self

    def sendall(self, data: bytes) -> None:
        self._attempt.limit(self._sock)
        self._sock.sendall(data)

    def recv(self, size: int) -> bytes:
        self._attempt.limit(self._sock)
        return self._sock.recv(size)

    def close(self) -> None:
        self._attempt.close(self._sock)
