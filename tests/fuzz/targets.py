"""What is fuzzed: functions of any bytes, which raise when something is wrong.

Each reads its input from the front: a few bytes choose, the rest is the peer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from syncws import Deflate, Options
from syncws.protocol.deflate import DeflateExtension
from syncws.protocol.events import Event, Fault, PeerClose, Ping, Pong
from syncws.protocol.headers import check_headers
from syncws.protocol.messages import Protocol
from syncws.upgrade.handshake import Accept, negotiate

from ..support.pairs import frame

__all__ = ["TARGETS"]


class Source:
    """The fuzzer's bytes, from the front; zeros when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def byte(self) -> int:
        return (self.take(1) or b"\x00")[0]

    def rest(self) -> bytes:
        return self.take(len(self._data))


# The frames

#: The sizes of messages and of frames that a stream may have.
LIMITS = [(1000, None), (100, 50), (1, None), (70_000, 66_000)]

#: Bytes of a header at most: what may lie unparsed while more is awaited.
HEADER = 14


def a_frame(first: int, payload: bytes) -> bytes:
    """With any opcode, with and without FIN and RSV1."""
    return frame(first & 15, payload, fin=bool(first & 128), rsv=4 if first & 64 else 0)


@cache
def large_frame(first: int) -> bytes:
    return a_frame(first, b"large" * 13_200)


def frames(source: Source) -> bytes:
    """A stream of frames with correct headers, which random bytes seldom have."""
    stream = []
    while source:
        first, size = source.byte(), source.byte()
        stream.append(large_frame(first) if size == 255 else a_frame(first, source.take(size)))
    return b"".join(stream)


#: An event; of a fault what the peer gets to see.
Said = Event | tuple[int, str]


def check_event(event: Event, limit: int) -> None:
    if isinstance(event, (str, bytes)):
        size = len(event.encode() if isinstance(event, str) else event)
        assert size <= limit, f"a message of {size} bytes"
    elif isinstance(event, (Ping, Pong)):
        assert len(event.payload) <= 125
    elif isinstance(event, PeerClose):
        assert 1000 <= event.code < 5000
        assert len(event.reason.encode()) <= 123
    else:
        assert isinstance(event, Fault), event
        assert event.code in (1002, 1007, 1009)
        assert event.cause == ("too_big" if event.code == 1009 else "protocol_error")


def events(
    stream: bytes, step: int, *, deflated: bool, fast: bool, limit: int, **more: Any
) -> list[Said]:
    """All that the stream says."""
    protocol = Protocol(
        max_message_size=limit,
        deflate=DeflateExtension(Deflate(), limit) if deflated else None,
        fast=fast,
        **more,
    )
    said: list[Said] = []
    for start in range(0, len(stream), step):
        protocol.receive_data(stream[start : start + step])
        while (event := protocol.next_event()) is not None:
            assert not said or not isinstance(said[-1], (tuple, PeerClose)), "behind the end"
            check_event(event, limit)
            said.append((event.code, event.cause) if isinstance(event, Fault) else event)
        unparsed = len(protocol._received) - protocol._parsed
        assert unparsed < HEADER, f"{unparsed} bytes wait for others"
    return said


def protocol(data: bytes) -> None:
    """The peer's frames, cut into pieces: the fast path and wsproto alone say the same."""
    source = Source(data)
    choice, pieces = source.byte(), source.byte() + 1
    limit, frame_limit = LIMITS[choice & 3]
    deflated = bool(choice & 4)
    stream = frames(source) if choice & 8 else source.rest()
    step = len(stream) // pieces + 1
    fast, slow = (
        events(stream, step, deflated=deflated, fast=fast, limit=limit, max_frame_size=frame_limit)
        for fast in (True, False)
    )
    if fast != slow:
        # By its header alone the fast path knows a frame to be too big. To
        # wsproto that much of it has to come: it may end before, or be bad.
        assert fast[-1:] == [(1009, "too_big")], (fast, slow)
        before, fault = slow[: len(fast) - 1], slow[len(fast) - 1 :]
        assert fast[:-1] == before, (fast, slow)
        assert fault in ([], [(1007, "protocol_error")]), (fast, slow)


# The handshake

HEADERS = [
    "HTTP_HOST",
    "HTTP_UPGRADE",
    "HTTP_CONNECTION",
    "HTTP_ORIGIN",
    "HTTP_TRANSFER_ENCODING",
    "CONTENT_LENGTH",
    "HTTP_SEC_WEBSOCKET_KEY",
    "HTTP_SEC_WEBSOCKET_VERSION",
    "HTTP_SEC_WEBSOCKET_PROTOCOL",
    "HTTP_SEC_WEBSOCKET_EXTENSIONS",
    "REQUEST_METHOD",
    "SERVER_PROTOCOL",
]

OPTIONS = [
    Options(),
    Options(origins=["https://example.com", "http://[::1]:8000"], subprotocols=["v2", "v1"]),
    Options(
        origins="*",
        compression="deflate",
        subprotocols=lambda offered: offered[-1] if offered else None,
    ),
    Options(compression=Deflate(server_max_window_bits=15, client_no_context_takeover=True)),
]

_STATUS = re.compile(r"[1-5]\d\d [A-Za-z ]+")


def handshake(data: bytes) -> None:
    """A good request in which some headers are the peer's: an answer, and nothing forged."""
    source = Source(data)
    options = OPTIONS[source.byte() & 3]
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "example.com",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
    }
    while source:
        name = HEADERS[source.byte() % len(HEADERS)]
        # As a server gives them (PEP 3333): without the ends of lines.
        value = source.take(source.byte()).decode("latin-1")
        environ[name] = value.translate({10: None, 13: None})
    answer = negotiate(environ, options)
    assert _STATUS.fullmatch(answer.status), answer.status
    # Names that are the handshake's own are allowed here.
    check_headers([(f"X-{name}", value) for name, value in answer.headers])
    if isinstance(answer, Accept):
        offered = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
        assert answer.subprotocol is None or answer.subprotocol in offered
        assert (answer.deflate is None) == ("Sec-WebSocket-Extensions" not in dict(answer.headers))
    else:
        assert answer.body.count(b"\n") == 1, "one line"


TARGETS: dict[str, Callable[[bytes], None]] = {"protocol": protocol, "handshake": handshake}
