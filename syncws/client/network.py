"""From a host to a connected socket: the look-up of its name, TCP, Unix sockets and TLS.

Each step has the deadline of the whole opening. A socket that is not handed over is closed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from typing import Any

from ..system.deadline import Deadline
from ..system.futures import resolve
from .attempt import Attempt

__all__ = ["Address", "look_up", "open_tcp", "open_unix", "peer_address", "start_tls"]

#: A host's address and a port.
Address = tuple[str, int]

#: An answer of ``getaddrinfo()``.
Found = list[tuple[Any, ...]]

#: Look-ups that are under way, by host and port. The system's resolver can not be
#: interrupted, so a look-up goes on after its deadline; the next one for the same name waits
#: for it. So there is one thread a name at most, and it ends when the resolver gives up.
_under_way: dict[tuple[str, int], Future[Found]] = {}
_under_way_lock = threading.Lock()


def _begin_in_child() -> None:
    """Forget the look-ups of the parent after a fork: their threads are not here."""
    global _under_way_lock
    _under_way_lock = threading.Lock()
    _under_way.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_in_child)


def look_up(host: str, port: int, attempt: Attempt) -> Found:
    """Return the addresses of a host, for TCP.

    Raises ``socket.gaierror`` if there are none, ``TimeoutError`` when no time is left, and
    ``RuntimeError`` when the system has no thread left.
    """
    with contextlib.suppress(socket.gaierror):  # raised for a name: that one has to be looked up
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    key = (host, port)
    with _under_way_lock:
        future = _under_way.get(key)
        if future is None:
            future = Future()
            thread = threading.Thread(
                target=_look_up, args=(key, future), name="syncws look-up", daemon=True
            )
            thread.start()
            _under_way[key] = future
    either: list[Future[Any]] = [future, attempt.cancelled]
    wait_for(either, attempt.left, FIRST_COMPLETED)
    if not future.done():
        raise TimeoutError(f"the look-up of {host} took too long")
    return future.result()


def _look_up(key: tuple[str, int], future: Future[Found]) -> None:
    """Run one look-up, in a thread of its own."""
    found: Found | BaseException
    try:
        found = socket.getaddrinfo(*key, type=socket.SOCK_STREAM)
    except Exception as exc:  # noqa: BLE001 -- raised in the threads that wait for it
        found = exc
    with _under_way_lock:  # which the thread that started this one holds until it is noted
        _under_way.pop(key, None)
    if isinstance(found, BaseException):
        future.set_exception(found)
    else:
        resolve(future, found)


def open_tcp(
    host: str, port: int, attempt: Attempt, local_address: Address | None
) -> tuple[socket.socket, Address]:
    """Connect to the first address of a host that answers. Return the address too."""
    addresses = look_up(host, port, attempt)
    if not addresses:
        raise OSError(f"{host} has no address")
    while True:
        family, _, _, _, address = addresses[0]
        addresses = addresses[1:]
        try:
            # An address that does not answer leaves the others their share of the time.
            share = Deadline(attempt.left / (len(addresses) + 1))
            sock = _open_one(family, address, attempt, share, local_address)
        except OSError:
            if not addresses:
                raise
        else:
            return sock, (address[0], address[1])


def open_unix(path: str, attempt: Attempt) -> socket.socket:
    """Connect to a Unix socket."""
    return _open_one(socket.AF_UNIX, path, attempt, None, None)


def _open_one(
    family: int,
    address: Any,
    attempt: Attempt,
    share: Deadline | None,
    local_address: Address | None,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if local_address is not None:
            sock.bind(local_address)
        attempt.limit(sock, share)
        sock.connect(address)
    except BaseException:
        attempt.close(sock)
        raise
    return sock


def start_tls(
    sock: socket.socket, hostname: str, context: ssl.SSLContext | None, attempt: Attempt
) -> ssl.SSLSocket:
    """Shake hands for TLS."""
    attempt.limit(sock)
    context = context or ssl.create_default_context()
    secured = context.wrap_socket(sock, server_hostname=hostname, do_handshake_on_connect=False)
    try:
        attempt.limit(secured)
        secured.do_handshake()
    except BaseException:
        attempt.close(secured)
        raise
    return secured


def peer_address(sock: socket.socket) -> Address | None:
    """Return the address that a connected socket leads to, None if it has none."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        host, port = sock.getpeername()[:2]
    except OSError:  # reset already
        return None
    return host, port
