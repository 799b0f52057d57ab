"""What goes wrong with connections, by name.

A fault is done to the peer's end of a connection, or to the bytes on their way.
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
    """For a socket that something else closes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def end_of_file(sock: socket.socket) -> None:
    """Half-close: nothing more will be sent, reading goes on."""
    sock.shutdown(socket.SHUT_WR)


def stall(sock: socket.socket) -> None:
    """Do not read, and have as little room for unread bytes as can be."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def byte_by_byte(sock: socket.socket, data: bytes) -> None:
    """Send each byte in a segment of its own."""
    for value in data:
        sock.sendall(bytes([value]))


def splits(data: bytes, *cuts: int) -> Iterator[bytes]:
    """``data`` cut at the given places, in any order."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        yield data[start:end]
