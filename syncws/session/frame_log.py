"""The frame log: each frame of a session in one line, at DEBUG on the logger ``syncws``.

The choice is made when a session opens: if the logger is not enabled for DEBUG, the session gets
an ordinary transport, and the log costs nothing. The lines are made from the bytes on the wire,
so they show what is sent and received even if it breaks the protocol.
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..system.logs import logger
from ..system.tls import TlsTransport, make_transport
from ..system.transport import Transport

if TYPE_CHECKING:
    from .common import CommonSession

__all__ = ["FrameLines", "begin_frame_log", "logging_transport"]

#: Bytes of a payload that are shown.
SHOWN = 64

_NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}


class FrameLines:
    """Makes lines of the bytes of one direction (RFC 6455 section 5.2)."""

    def __init__(self) -> None:
        # The header of the frame that is being received, and the beginning of its payload.
        self._head = bytearray()
        self._payload = bytearray()
        self._size: int | None = None  # of the payload; None before the header is complete
        self._left = 0

    def feed(self, data: bytes | memoryview) -> Iterator[str]:
        """Take bytes; yield a line for each frame that they complete."""
        at = 0
        while at < len(data) or self._size == 0:
            if self._size is None:
                self._head += data[at : at + 1]
                at += 1
                self._size = self._complete()
                self._left = self._size or 0
                if self._size is None:
                    continue
            taken = min(self._left, len(data) - at)
            self._payload += data[at : at + min(taken, SHOWN - len(self._payload))]
            at += taken
            self._left -= taken
            if self._left:
                return
            yield self._line()
            self._head.clear()
            self._payload.clear()
            self._size = None

    def _complete(self) -> int | None:
        """The size of the payload; None before the header is complete."""
        head = self._head
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(size, 0)
        if len(head) < 2 + extended + (4 if head[1] & 0x80 else 0):
            return None
        return int.from_bytes(head[2 : 2 + extended], "big") if extended else size

    def _line(self) -> str:
        head, payload = self._head, bytes(self._payload)
        opcode = head[0] & 0x0F
        words = [_NAMES.get(opcode, f"opcode {opcode}")]
        if not head[0] & 0x80:
            words.append("not final")
        words += [f"rsv{n}" for n in (1, 2, 3) if head[0] & (0x80 >> n)]
        words.append(f"{self._size} bytes")
        if head[1] & 0x80:
            mask = bytes(head[-4:])
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        if opcode == 8 and len(payload) >= 2:
            words.append(str(int.from_bytes(payload[:2], "big")))
            payload = payload[2:]
        if opcode in (1, 8) and not head[0] & 0x40:
            words.append(repr(payload.decode("utf-8", "replace")))
        elif payload:
            words.append(payload.hex())
        cut = "…" if self._size is not None and self._size > SHOWN else ""
        return " ".join(words) + cut


class _Logged(Transport):
    """The log's half of a transport. ``begin()`` comes before the first frame."""

    _label: str | None = None

    def begin(self, label: str, received: bytes) -> None:
        self._sent_lines, self._received_lines = FrameLines(), FrameLines()
        self._label = label
        self._log("<", self._received_lines, received)

    def _log(self, arrow: str, lines: FrameLines, data: bytes | memoryview) -> None:
        for line in lines.feed(data):
            logger.debug("%s %s %s", self._label, arrow, line)

    def receive(self, timeout: float | None, expected: int = 0) -> bytes:
        # Without a limit the plain class reads in recv() itself. With one, however long, it waits
        # in wait(), and all bytes come from receive_now().
        return super().receive(math.inf if timeout is None else timeout, expected)

    def receive_now(self, expected: int = 0) -> bytes | None:
        data = super().receive_now(expected)
        if data is not None and self._label is not None:
            self._log("<", self._received_lines, data)
        return data

    def _send_both_now(self, head: bytes, payload: bytes | bytearray | memoryview) -> int:
        return self.send_now(head + payload)

    def send_now(self, data: bytes | memoryview) -> int:
        written = super().send_now(data)
        if self._label is not None:
            self._log(">", self._sent_lines, data[:written])
        return written


class _LoggedTransport(_Logged):
    pass


class _LoggedTlsTransport(_Logged, TlsTransport):
    pass


def logging_transport(sock: socket.socket) -> Transport:
    """The transport for a connected socket; one that logs if DEBUG is on."""
    if not logger.isEnabledFor(logging.DEBUG):
        return make_transport(sock)
    return _LoggedTlsTransport(sock) if isinstance(sock, ssl.SSLSocket) else _LoggedTransport(sock)


def begin_frame_log(transport: Transport, session: CommonSession, received: bytes) -> None:
    """Begin the log of a session, if it has one. ``received`` came behind the handshake."""
    if isinstance(transport, _Logged):
        host, port = session.remote_address
        path = session.environ.get("PATH_INFO", "")
        label = f"{path} {host or 'unix'}:{port}"
        logger.debug("%s opens, subprotocol %s", label, session.subprotocol)
        transport.begin(label, received)
