"""Faults of connections, each with a name.

A fault acts on the peer's end of a connection, or on the bytes in transit.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Iterator


def reset(sock: socket.socket) -> None:
    """End the connection with a reset (RST)."""
    reset_when_closed(sock)
    sock.close()


def reset_when_closed(sock: socket.socket) -> None:
    """Let a later close of the socket send a reset. Use this if other code closes the socket."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end_of_file(sock: socket.socket) -> None:
    """Half-close the connection: send no more data, but go on reading."""
    sock.shutdown(socket.SHUT_WR)


def stall(sock: socket.socket) -> None:
    """Do not read, and make the buffer for unread bytes as small as possible."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def byte_by_byte(sock: socket.socket, data: bytes) -> None:
    """Send each byte in a separate segment."""
    for value in data:
        sock.sendall(bytes([value]))


def splits(data: bytes, *cuts: int) -> Iterator[bytes]:
    """``data`` cut at the given places, in any order."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        yield data[start:end]
