"""Thousands of peers in one thread: asyncio for the sockets, wsproto for the frames."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from . import faults
from .clients import handshake
from .pairs import PATIENCE

#: How many seconds a peer waits for the server, which may have thousands of other peers.
LONG = 3 * PATIENCE


class Ended(Exception):
    """The session is over. Has the code of the server's Close, or None without a Close."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class SwarmPeer:
    """One end of a session. While it waits for an event, it answers pings and the Close."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._transport = cast(asyncio.Transport, writer.transport)
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._protocol = Connection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._half_closed = False
        self.pings = 0
        self._closing = asyncio.ensure_future(self._wait_closed())

    @classmethod
    async def open(cls, port: int, path: str, source: str = "127.0.0.1") -> SwarmPeer:
        """Open a session. ``source`` is the address that the peer comes from."""
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)), LONG
        )
        peer = cls(reader, writer)
        writer.write(handshake(path))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)
        if not head.startswith(b"HTTP/1.1 101 "):
            peer.drop()
            raise AssertionError(f"the server refused a session: {head.decode('latin-1')}")
        return peer

    async def _wait_closed(self) -> None:
        """Take the error that has ended the connection: asyncio reports what nobody has taken, and
        the peers that reset, drop or stall expect it."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def _write(self, event: Event) -> None:
        self._writer.write(self._protocol.send(event))

    def _answer(self, event: Ping | CloseConnection, state: ConnectionState) -> None:
        """Send an answer, unless the state of the connection no longer allows it."""
        if self._protocol.state is state and not self._half_closed:
            self._write(event.response())

    def send(self, message: str | bytes, *, finished: bool = True) -> None:
        """Send a message or a fragment. Bytes that the server does not read stay in a buffer."""
        event: Any = TextMessage if isinstance(message, str) else BytesMessage
        self._write(event(message, message_finished=finished))

    def ping(self, payload: bytes) -> None:
        self._write(Ping(payload))

    async def next_event(self, timeout: float = LONG) -> Event:
        """A part of a message, or a pong.

        Raises ``Ended`` when the session is over, and asyncio's ``TimeoutError``.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, Ping):
                    self.pings += 1
                    self._answer(event, ConnectionState.OPEN)
                elif isinstance(event, CloseConnection):
                    self._answer(event, ConnectionState.REMOTE_CLOSING)
                    raise Ended(int(event.code))
                else:
                    return event
            try:
                data = await asyncio.wait_for(self._reader.read(65536), until - loop.time())
            except ConnectionError:
                data = b""
            if not data:
                raise Ended(None)
            self._protocol.receive_data(data)
            self._events.extend(self._protocol.events())

    async def receive(self) -> str | bytes:
        """The next message, put together."""
        parts: list[Any] = []
        while True:
            event = await self.next_event()
            if not isinstance(event, (TextMessage, BytesMessage)):
                raise AssertionError(f"{event} instead of a message")
            parts.append(event.data)
            if event.message_finished:
                joined: str | bytes = type(parts[0])().join(parts)
                return joined

    async def expect_echo(self, message: str | bytes) -> None:
        received = await self.receive()
        if received != message:
            raise AssertionError(f"the echo of {message[:40]!r} is {received[:40]!r}")

    async def expect_pong(self, payload: bytes) -> None:
        event = await self.next_event()
        if not isinstance(event, Pong) or bytes(event.payload) != payload:
            raise AssertionError(f"{event} instead of the pong {payload!r}")

    async def idle(self, seconds: float) -> None:
        """Do nothing but answer pings."""
        try:
            event = await self.next_event(seconds)
        except (asyncio.TimeoutError, TimeoutError):  # the same one since Python 3.11
            return
        raise AssertionError(f"{event}, unasked for")

    async def expect_end(self) -> int | None:
        """Take what comes until the session is over, TCP included; the code of the Close."""
        code = None
        while True:
            try:
                await self.next_event()
            except Ended as end:
                if end.code is None:
                    self.drop()
                    return code
                code = end.code

    async def close(self) -> None:
        """The closing handshake, from this side."""
        self._write(CloseConnection(1000))
        code = await self.expect_end()
        if code != 1000:
            raise AssertionError(f"the Close was answered with {code}")

    def stop_reading(self) -> None:
        faults.stall(self._socket)
        self._transport.pause_reading()

    def read_on(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def half_close(self) -> None:
        """Send no more data, but go on reading."""
        self._half_closed = True
        self._writer.write_eof()

    def drop(self) -> None:
        """Close TCP without a Close frame."""
        self._transport.abort()

    def reset(self) -> None:
        """Reset the TCP connection."""
        faults.reset_when_closed(self._socket)
        self._transport.abort()
