"""permessage-deflate: the negotiation, the bounds, and both directions."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import syncws
from syncws import Deflate, Options, Session
from syncws.protocol.deflate import DeflateExtension
from syncws.protocol.deflate_offers import accepted_deflate, negotiate_deflate, offer_deflate
from syncws.protocol.events import Fault
from syncws.protocol.messages import Protocol
from syncws.protocol.prepared import PreparedMessage
from syncws.upgrade.handshake import Accept, negotiate

from ..support.handshakes import request
from ..support.pairs import PATIENCE, frame

LIMIT = 1024 * 1024


def agree(offer: str, **options: Any) -> str | None:
    agreed = negotiate_deflate(offer.split(","), Deflate(**options), LIMIT)
    return None if agreed is None else agreed[1]


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        # Older clients refuse parameters that they did not ask for.
        ("permessage-deflate", ""),
        ("permessage-deflate; client_max_window_bits", "client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=8", "client_max_window_bits=8"),
        ("permessage-deflate; server_max_window_bits=15", "server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits=10; server_max_window_bits=9",
            "server_max_window_bits=9; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "server_no_context_takeover; client_no_context_takeover",
        ),
        ('permessage-deflate; server_max_window_bits="10"', "server_max_window_bits=10"),
        # The first offer that can be accepted.
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "",
        ),
    ],
)
def test_offers_that_are_accepted(offer: str, answer: str) -> None:
    assert agree(offer) == (f"permessage-deflate; {answer}" if answer else "permessage-deflate")


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=x",
        "permessage-deflate; server_max_window_bits=²",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
    ],
)
def test_offers_that_are_declined(offer: str) -> None:
    assert agree(offer) is None


@given(st.text())
def test_any_offer_has_an_answer(text: str) -> None:
    negotiate_deflate([text, f"permessage-deflate;{text}"], Deflate(), LIMIT)


def test_off_unless_asked_for() -> None:
    environ = request(HTTP_SEC_WEBSOCKET_EXTENSIONS="permessage-deflate; client_max_window_bits")
    for compression, expected in ((None, False), ("deflate", True), (Deflate(level=1), True)):
        answer = negotiate(environ, Options(compression=compression))  # type: ignore[arg-type]  # of either kind
        assert isinstance(answer, Accept)
        assert ("Sec-WebSocket-Extensions" in dict(answer.headers)) is expected
        assert (answer.deflate is not None) is expected
    answer = negotiate(request(), Options(compression="deflate"))
    assert isinstance(answer, Accept)
    assert answer.deflate is None, "the peer has to offer it"


@pytest.mark.parametrize(
    "options",
    [
        {"server_max_window_bits": 8},
        {"client_max_window_bits": 16},
        {"level": 0},
        {"memory_level": 10},
        {"min_size": -1},
        {"min_size": 0.5},
        {"level": 6.0},
        {"level": "6"},
    ],
)
def test_options_that_can_not_be(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Deflate(**options)  # type: ignore[arg-type]  # integers all


def pair(limit: int = LIMIT, *, fast: bool = True, **options: Any) -> Protocol:
    agreed = negotiate_deflate(["permessage-deflate"], Deflate(**options), limit)
    assert agreed is not None
    (extension, _) = agreed
    return Protocol(max_message_size=limit, deflate=extension, fast=fast)


def deflated(data: bytes, bits: int = 15) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -bits)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def received(protocol: Protocol, data: bytes) -> Any:
    protocol.receive_data(data)
    return protocol.next_event()


TEXT = "compressible " * 100


def test_control_frames_between_compressed_fragments() -> None:
    """A control frame ends neither the message nor the bound on its inflated size."""

    def parts(session: Session) -> Iterator[bytes]:
        for number in range(5):
            yield b"%d compressible " % number * 100
            session.ping()

    whole = b"".join(b"%d compressible " % number * 100 for number in range(5))

    def talk(session: Session) -> None:
        session.send(parts(session))
        session.send(session.receive())
        session.send(session.receive_stream())

    with (
        syncws.serve(talk, "127.0.0.1", 0, compression="deflate") as server,
        syncws.connect(f"ws://127.0.0.1:{server.port}/", compression="deflate") as client,
    ):
        assert client.receive(PATIENCE) == whole
        for _ in range(2):
            client.send(parts(client))
            assert client.receive(PATIENCE) == whole


@pytest.mark.parametrize("takeover", [True, False])
def test_messages_are_compressed(takeover: bool) -> None:
    protocol = pair(server_no_context_takeover=not takeover)
    inflater = zlib.decompressobj(-15)
    sizes = []
    for _ in range(3):
        whole = b"".join(protocol.message(TEXT))
        assert whole[0] == 0xC1, "text, whole, compressed"
        payload = whole[4:] if whole[1] == 126 else whole[2:]
        sizes.append(len(payload))
        if not takeover:
            inflater = zlib.decompressobj(-15)
        assert inflater.decompress(payload + b"\x00\x00\xff\xff") == TEXT.encode()
    assert (sizes[1] < sizes[0]) is takeover


@pytest.mark.parametrize("takeover", [True, False])
def test_the_fast_path_writes_what_wsproto_writes(takeover: bool) -> None:
    """Whole messages of every size of header, with one in fragments among them."""
    fast, slow = (
        pair(fast=fast, min_size=0, server_no_context_takeover=not takeover)
        for fast in (True, False)
    )
    source = random.Random(6455)
    for size in (0, 100, 300, 100_000, 100):
        noise = source.randbytes(size)
        for data in (TEXT[:size], noise, bytearray(noise), memoryview(noise)[::2]):
            assert b"".join(fast.message(data)) == b"".join(slow.message(data))
        for finished in (False, True):
            fragment = fast.fragment(noise, finished=finished)
            assert fragment == slow.fragment(noise, finished=finished)
    assert fast.messages_sent == slow.messages_sent == 25


def test_small_messages_are_not_compressed() -> None:
    protocol = pair(min_size=50)
    assert b"".join(protocol.message("x" * 49))[0] == 0x81
    assert b"".join(protocol.message(memoryview(b"x" * 50)))[0] == 0xC2


def test_compressed_and_plain_messages_may_alternate() -> None:
    protocol = pair()
    assert received(protocol, frame(1, deflated(TEXT.encode()), rsv=4)) == TEXT
    assert received(protocol, frame(1, b"plain")) == "plain"
    assert received(protocol, frame(2, b"\x00", rsv=4)) == b""
    part = deflated(b"in fragments")
    protocol.receive_data(frame(2, part[:3], fin=False, rsv=4) + frame(0, part[3:]))
    assert protocol.next_event() == b"in fragments"


@pytest.mark.parametrize(
    "bad",
    [
        frame(1, b"\xff\xff\xff", rsv=4),  # not DEFLATE
        frame(9, b"x", rsv=4),  # a compressed control frame
        frame(1, b"x", fin=False) + frame(0, b"y", rsv=4),
        frame(1, deflated(b"\xff\xfe"), rsv=4),  # not UTF-8
    ],
)
def test_faults(bad: bytes) -> None:
    event = received(pair(), bad)
    assert isinstance(event, Fault)
    assert event.cause == "protocol_error"


@pytest.mark.parametrize("client", [False, True])
def test_a_continuation_of_nothing_is_not_inflated(client: bool) -> None:
    """It is a protocol error, whatever the last message was, and whatever its payload is."""
    extension = DeflateExtension(Deflate(), LIMIT, client=client)
    protocol = Protocol(max_message_size=LIMIT, client=client, deflate=extension)
    compressed = frame(2, deflated(b"a message"), rsv=4, masked=not client)
    assert received(protocol, compressed) == b"a message"
    event = received(protocol, frame(0, b"not DEFLATE", fin=False, masked=not client))
    assert isinstance(event, Fault)
    assert event.code == 1002


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_limit_is_exact(size: int) -> None:
    event = received(pair(), frame(2, deflated(b"x" * size), rsv=4))
    if size <= LIMIT:
        assert event == b"x" * size
    else:
        assert event == Fault(1009, f"message larger than {LIMIT} bytes", "too_big")


@pytest.mark.parametrize("fragments", [1, 50])
def test_a_bomb_ends_in_1009_with_memory_flat(fragments: int) -> None:
    bomb = deflated(bytes(1000 * LIMIT))
    assert len(bomb) > LIMIT * 0.95
    step = len(bomb) // fragments + 1
    parts = [bomb[start : start + step] for start in range(0, len(bomb), step)]
    stream = b"".join(
        frame(0 if number else 2, part, fin=number == len(parts) - 1, rsv=0 if number else 4)
        for number, part in enumerate(parts)
    )
    protocol = pair()
    tracemalloc.start()
    event = None
    for start in range(0, len(stream), 65536):
        event = received(protocol, stream[start : start + 65536])
        if event is not None:
            break
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(event, Fault)
    assert (event.code, event.cause) == (1009, "too_big")
    assert peak < 8 * LIMIT


@pytest.mark.parametrize(
    ("options", "offer"),
    [
        ({}, "server_max_window_bits=12; client_max_window_bits=12"),
        (
            {"server_max_window_bits": 15, "client_max_window_bits": 9},
            "server_max_window_bits=15; client_max_window_bits=9",
        ),
        (
            {"server_no_context_takeover": True, "client_no_context_takeover": True},
            "server_max_window_bits=12; client_max_window_bits=12"
            "; server_no_context_takeover; client_no_context_takeover",
        ),
    ],
)
def test_a_client_offers_what_its_options_say(options: dict[str, Any], offer: str) -> None:
    best, fallback = offer_deflate(Deflate(**options)).split(", ")
    assert best == f"permessage-deflate; {offer}"
    kept = "; client_no_context_takeover" if options.get("client_no_context_takeover") else ""
    assert fallback == f"permessage-deflate; client_max_window_bits{kept}"


@pytest.mark.parametrize(
    ("answer", "windows", "takeover"),
    [
        ("server_max_window_bits=12", (12, 12), (True, True)),
        ("server_max_window_bits=9; client_max_window_bits=10", (9, 10), (True, True)),
        # The server allows a larger window than we use.
        ("server_max_window_bits=12; client_max_window_bits=15", (12, 12), (True, True)),
        ("server_no_context_takeover; server_max_window_bits=12", (12, 12), (False, True)),
        ('client_no_context_takeover; server_max_window_bits="10"', (10, 12), (True, False)),
        # The answer of gorilla, and of others, to the offer without server_max_window_bits.
        ("server_no_context_takeover; client_no_context_takeover", (15, 12), (False, False)),
        ("", (15, 12), (True, True)),
        ("server_max_window_bits=15", (15, 12), (True, True)),
        ("server_max_window_bits=8; client_max_window_bits=8", (8, 8), (True, True)),
    ],
)
def test_answers_that_a_client_takes(
    answer: str, windows: tuple[int, int], takeover: tuple[bool, bool]
) -> None:
    answer = f"permessage-deflate; {answer}" if answer else "permessage-deflate"
    agreed = accepted_deflate(answer, Deflate(), LIMIT)
    assert (agreed.server_max_window_bits, agreed.client_max_window_bits) == windows
    assert (
        not agreed.server_no_context_takeover,
        not agreed.client_no_context_takeover,
    ) == takeover


@pytest.mark.parametrize(
    "answer",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=12; client_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=12; unknown",
        "permessage-deflate; server_max_window_bits=12, permessage-deflate",
    ],
)
def test_answers_that_a_client_does_not_take(answer: str) -> None:
    with pytest.raises(ValueError, match=r"permessage-deflate|was not offered"):
        accepted_deflate(answer, Deflate(), LIMIT)


def test_a_server_may_keep_its_context_against_our_wish() -> None:
    ours = Deflate(server_no_context_takeover=True)
    agreed = accepted_deflate("permessage-deflate", ours, LIMIT)
    assert not agreed.server_no_context_takeover
    client = Protocol(client=True, max_message_size=LIMIT, deflate=agreed)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    for _ in range(3):
        payload = compressor.compress(TEXT.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert received(client, frame(1, payload[:-4], rsv=4, masked=False)) == TEXT


@pytest.mark.parametrize("server_bits", [9, 15])
@pytest.mark.parametrize("client_bits", [9, 15])
@pytest.mark.parametrize("takeover", [True, False])
def test_client_and_server_understand_each_other(
    server_bits: int, client_bits: int, takeover: bool
) -> None:
    ours = Deflate(
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
        server_no_context_takeover=not takeover,
    )
    theirs = Deflate(
        server_max_window_bits=15,
        client_max_window_bits=15,
        client_no_context_takeover=not takeover,
        min_size=0,
    )
    agreed = negotiate_deflate(offer_deflate(ours).split(","), theirs, LIMIT)
    assert agreed is not None
    server = Protocol(max_message_size=LIMIT, deflate=agreed[0])
    extension = accepted_deflate(agreed[1], ours, LIMIT)
    client = Protocol(client=True, max_message_size=LIMIT, deflate=extension)
    source = random.Random(7692)
    for _ in range(20):
        message = bytes(source.choices(range(8), k=source.randrange(50_000)))
        for sender, receiver in ((client, server), (server, client)):
            whole = b"".join(sender.message(message))
            assert bool(whole[1] & 0x80) is (sender is client)
            assert received(receiver, whole) == message
            prepared = b"".join(sender.prepared(PreparedMessage(message)))
            assert received(receiver, prepared) == message
    assert (extension._deflater is None) is not takeover


def test_random_messages_survive() -> None:
    protocol = pair(2**22)
    source = random.Random(7692)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    for _ in range(50):
        message = bytes(source.choices(range(8), k=source.randrange(100_000)))
        payload = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert received(protocol, frame(2, payload[:-4], rsv=4)) == message
