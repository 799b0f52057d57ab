"""From a host to a connected socket: the look-up of its name, TCP, Unix sockets and TLS.

Each step has the deadline of the whole opening. A socket that is not handed over is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from ..system.deadline import Deadline
from ..system.futures import resolve

__all__ = ["Address", "look_up", "open_tcp", "open_unix", "peer_address", "start_tls"]

#: A host's address and a port.
Address = tuple[str, int]

#: An answer of ``getaddrinfo()``.
Found = list[tuple[Any, ...]]

#: Python counts the milliseconds of a socket's timeout in 31 bits; 11 days are below that.
_MAX_SOCKET_TIMEOUT = 1_000_000.0

#: Look-ups that are under way, by process, host and port. The system's resolver can not be
#: interrupted, so a look-up goes on after its deadline; the next one for the same name waits
#: for it. So there is one thread a name at most, and it ends when the resolver gives up.
_under_way: dict[tuple[int, str, int], Future[Found]] = {}
_under_way_lock = threading.Lock()


def look_up(host: str, port: int, deadline: Deadline) -> Found:
    """Return the addresses of a host, for TCP.

    Raises ``socket.gaierror`` if there are none, ``TimeoutError`` after the deadline, and
    ``RuntimeError`` when the system has no thread left.
    """
    with contextlib.suppress(socket.gaierror):  # raised for a name: that one has to be looked up
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    key = (os.getpid(), host, port)
    with _under_way_lock:
        future = _under_way.get(key)
        if future is None:
            future = Future()
            thread = threading.Thread(
                target=_look_up, args=(key, future), name="syncws look-up", daemon=True
            )
            thread.start()
            _under_way[key] = future
    try:
        return future.result(deadline.left)
    except FutureTimeoutError:  # not the built-in one before Python 3.11
        if future.done():
            raise  # the system's own: an OSError
        raise TimeoutError(f"the look-up of {host} took too long") from None


def _look_up(key: tuple[int, str, int], future: Future[Found]) -> None:
    """Run one look-up, in a thread of its own."""
    _, host, port = key
    found: Found | BaseException
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except Exception as exc:  # noqa: BLE001 -- raised in the threads that wait for it
        found = exc
    with _under_way_lock:  # which the thread that started this one holds until it is noted
        _under_way.pop(key, None)
    if isinstance(found, BaseException):
        future.set_exception(found)
    else:
        resolve(future, found)


def open_tcp(
    host: str, port: int, deadline: Deadline, local_address: Address | None
) -> tuple[socket.socket, Address]:
    """Connect to the first address of a host that answers. Return the address too."""
    addresses = look_up(host, port, deadline)
    if not addresses:
        raise OSError(f"{host} has no address")
    while True:
        family, _, _, _, address = addresses[0]
        addresses = addresses[1:]
        try:
            # An address that does not answer leaves the others their share of the time.
            share = Deadline(deadline.left / (len(addresses) + 1))
            sock = _open_one(family, address, share, local_address)
        except OSError:
            if not addresses:
                raise
        else:
            return sock, (address[0], address[1])


def open_unix(path: str, deadline: Deadline) -> socket.socket:
    """Connect to a Unix socket."""
    return _open_one(socket.AF_UNIX, path, deadline, None)


def _open_one(
    family: int, address: Any, deadline: Deadline, local_address: Address | None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if local_address is not None:
            sock.bind(local_address)
        limit(sock, deadline)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def limit(sock: socket.socket, deadline: Deadline) -> None:
    """Let the socket's next call wait until the deadline. Raises ``TimeoutError`` after it."""
    left = min(deadline.left, _MAX_SOCKET_TIMEOUT)
    if left <= 0:
        raise TimeoutError("the time is over")
    sock.settimeout(left)


def start_tls(
    sock: socket.socket, hostname: str, context: ssl.SSLContext | None, deadline: Deadline
) -> ssl.SSLSocket:
    """Shake hands for TLS."""
    limit(sock, deadline)
    context = context or ssl.create_default_context()
    return context.wrap_socket(sock, server_hostname=hostname)


def peer_address(sock: socket.socket) -> Address | None:
    """Return the address that a connected socket leads to, None if it has none."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        host, port = sock.getpeername()[:2]
    except OSError:  # reset already
        return None
    return host, port
