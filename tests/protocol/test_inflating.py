"""What a peer may make of permessage-deflate, held against zlib: final blocks above all."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncws import Deflate
from syncws.protocol.deflate import DeflateExtension
from syncws.protocol.deflate_offers import accepted_deflate
from syncws.protocol.events import Event, Fault
from syncws.protocol.messages import Protocol

from ..support.faults import splits
from ..support.pairs import frame

LIMIT = 100_000

#: RFC 7692 section 7.2.3.4: "Hello" in a block with BFINAL.
FINAL_HELLO = bytes.fromhex("f3 48 cd c9 c9 07 00 00")
#: RFC 7692 section 7.2.3.1: "Hello".
HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
#: RFC 7692 section 7.2.3.5: "Hello" in two blocks.
TWO_BLOCKS = bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00")
#: RFC 7692 section 7.2.3.3: "Hello" without compression.
STORED_HELLO = bytes.fromhex("00 05 00 fa ff 48 65 6c 6c 6f 00")

each_side = pytest.mark.parametrize("client", [False, True])
each_context = pytest.mark.parametrize("takeover", [False, True])


def protocol(
    *, client: bool = False, takeover: bool = True, limit: int = LIMIT, **options: Any
) -> Protocol:
    extension = DeflateExtension(Deflate(), limit, client=client)
    extension.server_no_context_takeover = extension.client_no_context_takeover = not takeover
    return Protocol(client=client, max_message_size=limit, deflate=extension, **options)


def events(receiver: Protocol, *parts: bytes) -> list[Event]:
    found = []
    for part in parts:
        receiver.receive_data(part)
        while (event := receiver.next_event()) is not None:
            found.append(event)
    return found


def message(receiver: Protocol, payload: bytes, *cuts: int, opcode: int = 2) -> bytes:
    """A compressed message in fragments, as ``receiver``'s peer sends it."""
    parts = list(splits(payload, *cuts))
    return b"".join(
        frame(
            0 if number else opcode,
            part,
            fin=number == len(parts) - 1,
            rsv=0 if number else 4,
            masked=not receiver.client,
        )
        for number, part in enumerate(parts)
    )


@each_side
@each_context
@pytest.mark.parametrize("fragments", [(), (1,), (6,), (7,), (2, 5, 7)])
@pytest.mark.parametrize("step", [1, 1000])
def test_the_examples_of_the_rfc(
    client: bool, takeover: bool, fragments: tuple[int, ...], step: int
) -> None:
    receiver = protocol(client=client, takeover=takeover)
    for payload in (HELLO, FINAL_HELLO, FINAL_HELLO, TWO_BLOCKS, FINAL_HELLO[:-1], STORED_HELLO):
        whole = message(receiver, payload, *fragments, opcode=1)
        parts = [whole[start : start + step] for start in range(0, len(whole), step)]
        assert events(receiver, *parts) == ["Hello"]


@each_side
def test_a_message_that_refers_to_one_before_a_final_block(client: bool) -> None:
    """RFC 7692 section 7.2.3.2, with a message in between that ends zlib's stream."""
    receiver = protocol(client=client)
    again = bytes.fromhex("f2 00 11 00 00")
    for payload in (HELLO, again, FINAL_HELLO, again):
        assert events(receiver, message(receiver, payload)) == [b"Hello"]


@each_side
@each_context
def test_data_behind_a_final_block_belongs_to_the_message(client: bool, takeover: bool) -> None:
    receiver = protocol(client=client, takeover=takeover)
    for payload, expected in (
        (FINAL_HELLO[:-1] + FINAL_HELLO, b"HelloHello"),
        (FINAL_HELLO[:-1] + HELLO, b"HelloHello"),
        (HELLO, b"Hello"),
    ):
        assert events(receiver, message(receiver, payload)) == [expected]


@each_side
@each_context
def test_an_empty_message(client: bool, takeover: bool) -> None:
    """RFC 7692 section 7.2.3.6: one zero byte; some peers leave it out."""
    receiver = protocol(client=client, takeover=takeover)
    for payload in (b"\x00", b"", b"\x00", b""):
        assert events(receiver, message(receiver, payload)) == [b""]
        assert events(receiver, message(receiver, HELLO)) == [b"Hello"]


#: A piece of a message, and how its peer flushes behind it.
pieces = st.lists(
    st.tuples(
        st.binary(max_size=40) | st.sampled_from([b"the same again " * 20, b"", b"x" * 5000]),
        st.sampled_from(["none", "sync", "full", "final", "final and forget"]),
    ),
    max_size=6,
)


class Peer:
    """Compresses as RFC 7692 section 7.2.1 allows, in more ways than any one peer does."""

    def __init__(self, bits: int, takeover: bool) -> None:
        self._bits = bits
        self._takeover = takeover
        self._sent = b""
        self._deflater = self._new(b"")

    def _new(self, known: bytes) -> zlib._Compress:
        return zlib.compressobj(6, zlib.DEFLATED, -self._bits, zdict=known[-(1 << self._bits) :])

    def deflate(self, parts: list[tuple[bytes, str]]) -> bytes:
        payload = b""
        for data, flush in parts:
            payload += self._deflater.compress(data)
            self._sent += data
            if flush == "sync":
                payload += self._deflater.flush(zlib.Z_SYNC_FLUSH)
            elif flush == "full":
                payload += self._deflater.flush(zlib.Z_FULL_FLUSH)
            elif flush != "none":
                payload += self._deflater.flush(zlib.Z_FINISH)
                self._deflater = self._new(self._sent if flush == "final" else b"")
        # zlib flushes nothing twice, unless it is given something in between.
        payload += self._deflater.compress(b"") + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        if not self._takeover:
            self._sent = b""
            self._deflater = self._new(b"")
        assert payload.endswith(b"\x00\x00\xff\xff")
        return payload[:-4]


@given(
    messages=st.lists(st.tuples(pieces, st.lists(st.integers(0, 300), max_size=3)), max_size=6),
    cuts=st.lists(st.integers(0, 5000), max_size=8),
    client=st.booleans(),
    takeover=st.booleans(),
    bits=st.sampled_from([9, 12, 15]),
)
def test_every_way_to_compress_is_understood_in_any_fragmentation(
    messages: list[tuple[list[tuple[bytes, str]], list[int]]],
    cuts: list[int],
    client: bool,
    takeover: bool,
    bits: int,
) -> None:
    receiver = protocol(client=client, takeover=takeover)
    peer = Peer(bits, takeover)
    stream = b"".join(message(receiver, peer.deflate(parts), *at) for parts, at in messages)
    assert events(receiver, *splits(stream, *cuts)) == [
        b"".join(data for data, _ in parts) for parts, _ in messages
    ]


def spoiled(payload: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(payload)
    for at, value in changes:
        if changed:
            changed[at % len(changed)] = value
    return bytes(changed)


@given(
    messages=st.lists(
        st.tuples(
            pieces,
            st.sampled_from([1, 2]),
            st.lists(st.integers(0, 300), max_size=1),
            st.just([]) | st.lists(st.tuples(st.integers(0, 50), st.integers(0, 255)), max_size=1),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 5000), max_size=4),
    client=st.booleans(),
    takeover=st.booleans(),
    limits=st.sampled_from([(LIMIT, LIMIT), (400, LIMIT), (LIMIT, 400), (400, 100)]),
)
def test_the_fast_path_says_what_wsproto_says(
    messages: list[tuple[list[tuple[bytes, str]], int, list[int], list[tuple[int, int]]]],
    cuts: list[int],
    client: bool,
    takeover: bool,
    limits: tuple[int, int],
) -> None:
    """A whole compressed frame is inflated without wsproto; bad and too large ones among them."""
    peer = Peer(12, takeover)
    fast, slow = (
        protocol(
            client=client,
            takeover=takeover,
            limit=limits[0],
            max_frame_size=limits[1],
            fast=fast,
        )
        for fast in (True, False)
    )
    stream = b"".join(
        message(fast, spoiled(peer.deflate(parts), changes), *at, opcode=opcode)
        for parts, opcode, at, changes in messages
    )
    found, expected = (
        [
            (event.code, event.cause) if isinstance(event, Fault) else event
            for event in events(receiver, *splits(stream, *cuts))
        ]
        for receiver in (fast, slow)
    )
    assert found == expected


@each_side
@each_context
@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_the_limit_is_exact_over_final_blocks(client: bool, takeover: bool, size: int) -> None:
    receiver = protocol(client=client, takeover=takeover)
    peer = Peer(15, takeover)
    first = [(b"x" * 1000, "final")] * (size // 1000)
    payload = peer.deflate([*first, (b"x" * (size % 1000), "final")])
    found = events(receiver, message(receiver, payload))
    if size <= LIMIT:
        assert found == [b"x" * size]
        assert events(receiver, message(receiver, peer.deflate([(b"y", "none")]))) == [b"y"]
    else:
        assert found == [Fault(1009, f"message larger than {LIMIT} bytes", "too_big")]


def test_a_bomb_behind_a_final_block_takes_no_memory() -> None:
    receiver = protocol()
    bomb = message(
        receiver, Peer(15, True).deflate([(b"", "final"), (bytes(1000 * LIMIT), "none")])
    )
    tracemalloc.start()
    (fault,) = events(receiver, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(fault, Fault)
    assert fault.cause == "too_big"
    assert peak < 20 * LIMIT


def test_garbage_behind_a_final_block_is_a_fault() -> None:
    receiver = protocol()
    (fault,) = events(receiver, message(receiver, FINAL_HELLO[:-1] + b"\xff\xff"))
    assert isinstance(fault, Fault)
    assert (fault.code, fault.cause) == (1007, "protocol_error")


def test_many_final_blocks_take_no_quadratic_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib copies everything behind a final block: those copies are counted here."""
    copied = 0
    original = zlib.decompressobj

    class Counting:
        def __init__(self, *arguments: object) -> None:
            self._stream = original(*arguments)  # type: ignore[arg-type]  # those of zlib's
            self.eof = False

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal copied
            part = self._stream.decompress(data, most)
            self.eof = self._stream.eof
            self.unused_data = self._stream.unused_data
            copied += len(self.unused_data)
            return part

    monkeypatch.setattr("syncws.protocol.inflating.zlib.decompressobj", Counting)
    receiver = protocol()
    blocks = b"\x03\x00" * 50_000
    assert events(receiver, message(receiver, blocks)) == [b""]
    assert copied < len(blocks) * 4096


def test_a_window_of_8_bits_is_kept_to() -> None:
    """zlib cannot deflate with one, so the client refers to the byte before and no further."""
    agreed = accepted_deflate("permessage-deflate; client_max_window_bits=8", Deflate(), LIMIT)
    client = Protocol(client=True, max_message_size=LIMIT, deflate=agreed, masking=False)
    strict = zlib.decompressobj(-8)
    text = "the same again, " * 50 + "x" * 1000
    for _ in range(2):
        written = b"".join(client.message(text))
        assert written[0] == 0xC1, "compressed"
        rest = written[4:] + b"\x00\x00\xff\xff"
        inflated = b""
        while rest:
            # One byte at a time comes from the window and nowhere else.
            inflated += strict.decompress(rest, 1)
            rest = strict.unconsumed_tail
        inflated += strict.decompress(b"", 0)
        assert inflated.decode() == text
        assert len(written) < len(text)
