"""The frame log: one line for each frame if DEBUG is on, and nothing if it is off."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

import syncws
from syncws.session.frame_log import FrameLines
from syncws.system.transport import Transport

from ..support.faults import splits
from ..support.pairs import PATIENCE
from ..support.serving import echo

WIRE = (
    b"\x81\x02hi"  # text
    b"\x01\x80\x01\x02\x03\x04"  # masked, empty, not final
    b"\xc2\x83\x01\x02\x03\x04\x01\x02\x03"  # masked, rsv1
    b"\x89\x00"  # ping
    b"\x81\x7e\x01\x00"
    + b"x" * 256
    + b"\x82\x7f"
    + (70_000).to_bytes(8, "big")
    + bytes(70_000)
    + b"\x88\x05\x03\xe8bye"
)
LINES = [
    "text 2 bytes 'hi'",
    "text not final 0 bytes ''",
    "binary rsv1 3 bytes 000000",
    "ping 0 bytes",
    f"text 256 bytes {'x' * 64!r}…",
    f"binary 70000 bytes {'00' * 64}…",
    "close 5 bytes 1000 'bye'",
]


@given(st.lists(st.integers(0, len(WIRE)), max_size=20))
def test_lines_however_the_bytes_are_cut(cuts: list[int]) -> None:
    lines = FrameLines()
    found = [line for part in splits(WIRE, *cuts) for line in lines.feed(part)]
    assert found == LINES


def test_f8_a_log_of_each_frame(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "syncws")
    with syncws.serve(echo, "127.0.0.1") as server:
        host = f"127.0.0.1:{server.port}"
        headers = {"Authorization": "secret"}
        with syncws.connect(f"ws://{host}/chat", headers=headers, ping_interval=None) as session:
            session.send("hello")
            assert session.receive(PATIENCE) == "hello"
            session.send(b"x" * 100_000)
            session.receive(PATIENCE)
    lines = [record.getMessage() for record in caplog.records if record.name == "syncws"]
    of_the_client = [line for line in lines if f"/chat {host}" in line]
    assert f"{host} > GET /chat" in lines
    assert of_the_client[:5] == [
        f"/chat {host} opens, subprotocol None",
        f"/chat {host} > text 5 bytes 'hello'",
        f"/chat {host} < text 5 bytes 'hello'",
        f"/chat {host} > binary 100000 bytes {'78' * 64}…",
        f"/chat {host} < binary 100000 bytes {'78' * 64}…",
    ]
    # The answer may come before the thread that sent the Close has logged it.
    assert sorted(of_the_client[5:]) == [
        f"/chat {host} < close 2 bytes 1000 ''",
        f"/chat {host} > close 2 bytes 1000 ''",
    ]
    # The server's, too.
    assert len([line for line in lines if line.endswith("> text 5 bytes 'hello'")]) == 2
    assert "secret" not in caplog.text


def test_without_debug_the_transport_is_the_ordinary_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "syncws")
    with (
        syncws.serve(echo, "127.0.0.1") as server,
        syncws.connect(f"ws://127.0.0.1:{server.port}/") as session,
    ):
        assert type(session._transport) is Transport
