"""The socket that ``serve()`` listens on: TCP, or a Unix socket with its file."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

__all__ = ["listen", "stop_listening"]

#: Connections that the system keeps for the acceptor. Precedent: 2048 in gunicorn.
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address, as :func:`syncws.serve` takes it.

    The socket does not block: a peer may leave between the news of its connection and
    ``accept()``.
    """
    if not isinstance(host, str):
        raise TypeError(f'host is a name or an address, "" for all, not {host!r}')
    if not 0 <= port <= 65535:
        raise ValueError(f"port is from 0 to 65535, not {port!r}")
    path = host.removeprefix("unix:")
    if path == host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    else:
        listener = _listen_on_unix(path)
    listener.setblocking(False)
    return listener


def stop_listening(listener: socket.socket) -> None:
    """Close the listener, and remove the file of a Unix socket."""
    with listener:
        if listener.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):
                os.unlink(listener.getsockname())


def _listen_on_unix(path: str) -> socket.socket:
    if not path:
        raise ValueError("unix: is followed by the path of a socket")
    if "\0" in path:
        raise ValueError(
            f"a Unix socket is listened on at the path of a file, without null characters, not "
            f"at {path!r}"
        )
    listener = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise OSError(exc.errno, exc.strerror or str(exc), path) from None
    except BaseException:  # a path that the file system's encoding does not have
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the file of a socket whose server has ended without removing it."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
