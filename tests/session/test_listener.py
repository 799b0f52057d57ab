"""Handlers as callbacks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

import syncws
from syncws import (
    CloseReason,
    Listener,
    Session,
    callbacks,
)

from ..conftest import MakeSession
from ..support.background import Background
from ..support.pairs import PATIENCE, Peer, frame

Both = tuple[Session, Peer]


class Recorder(Listener):
    """A listener that notes each call of its callbacks."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_open(self, session: Session, **parameters: Any) -> str:
        self.calls.append(("open", parameters))
        return "process"

    def on_text(self, session: Session, process: Any, text: str) -> None:
        self.calls.append((process, text))
        if text == "raise":
            raise LookupError("as it was told")

    def on_binary(self, session: Session, process: Any, data: Any) -> None:
        self.calls.append((process, data))

    def on_close(self, session: Session, process: Any, reason: CloseReason) -> None:
        assert session.close_reason.done() or session._reason is not None
        self.calls.append((process, reason))


def test_d5_callbacks_get_the_process_object(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    listener = Recorder()
    running = Background(session.run, lambda session: listener(session, room="a"))
    peer.send("text")
    peer.send(b"binary")
    peer.send_close(4000, "bye")
    assert peer.expect_close() == (4000, "bye")
    running.result()
    assert listener.calls == [
        ("open", {"room": "a"}),
        ("process", "text"),
        ("process", b"binary"),
        ("process", CloseReason(4000, "bye", "peer")),
    ]


def test_d5_functions_will_do(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    calls: list[Any] = []
    handlers = callbacks(
        on_open=lambda session: calls,
        on_text=lambda session, process, text: process.append(text),
        on_close=lambda session, process, reason: process.append(reason.code),
    )
    running = Background(session.run, handlers)
    peer.send("text")
    peer.send_close()
    running.result()
    assert calls == ["text", 1000]


def test_d5_on_close_comes_once_though_a_callback_raises(
    session_and_peer: Both, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = session_and_peer
    listener = Recorder()
    running = Background(session.run, listener)
    peer.send("raise")
    assert peer.answer_close() == (1011, "")
    running.result()
    assert listener.calls[2:] == [("process", CloseReason(1011, "", "error"))]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "as it was told" in caplog.text


def test_what_on_close_raises_is_logged(
    session_and_peer: Both, caplog: pytest.LogCaptureFixture
) -> None:
    session, peer = session_and_peer

    def on_close(session: Session, process: Any, reason: CloseReason) -> None:
        raise LookupError("as it was told")

    running = Background(session.run, callbacks(on_close=on_close))
    peer.send_close()
    running.result()
    assert "as it was told" in caplog.text
    assert session.wait_closed(PATIENCE).cause == "peer"


@pytest.mark.parametrize(("message", "kind"), [("text", "text"), (b"binary", "binary")])
def test_a_kind_of_message_without_a_callback_is_refused(
    session_and_peer: Both, message: Any, kind: str
) -> None:
    session, peer = session_and_peer
    running = Background(session.run, callbacks())
    peer.send(message)
    assert peer.answer_close() == (1003, f"{kind} messages are not accepted here")
    running.result()


def test_the_end_of_another_session_is_a_failure(make_session: MakeSession) -> None:
    session, peer = make_session()
    other, _ = make_session()
    other.terminate()
    handlers = callbacks(on_text=lambda session, process, text: other.send(text))
    running = Background(session.run, handlers)
    peer.send("for the other")
    assert peer.answer_close() == (1011, "")
    running.result()


def test_d6_binary_as_bytes_or_memoryview(make_session: MakeSession) -> None:
    for binary_format, kind in (("bytes", bytes), ("memoryview", memoryview)):
        session, peer = make_session()
        got: list[Any] = []
        handlers = callbacks(
            on_binary=lambda session, process, data, got=got: got.append(data),
            on_text=lambda session, process, text, got=got: got.append(text),
            binary_format=binary_format,  # type: ignore[arg-type]  # one of them, not any str
        )
        running = Background(session.run, handlers)
        peer.send(b"\x00\x01")
        peer.send("text")
        peer.send_close()
        running.result()
        assert [type(got[0]), bytes(got[0]), got[1]] == [kind, b"\x00\x01", "text"]


def test_d6_binary_as_a_stream_while_it_arrives(session_and_peer: Both) -> None:
    session, peer = session_and_peer
    got: list[Any] = []

    def on_binary(session: Session, process: Any, data: BinaryIO) -> None:
        got.append(data.read(3))
        session.send("more, please")
        got.append(data.read(3))

    handlers = callbacks(
        on_binary=on_binary,
        on_text=lambda session, process, text: got.append(text),
        binary_format="stream",
    )
    running = Background(session.run, handlers)
    peer.send_bytes(frame(2, b"one", fin=False))
    assert peer.receive() == "more, please"
    peer.send_bytes(frame(0, b"two, and what nobody reads"))
    peer.send("text")
    peer.send_close()
    running.result()
    assert got == [b"one", b"two", "text"]


def test_d6_other_formats_are_refused() -> None:
    with pytest.raises(ValueError, match='"bytes", "memoryview" or "stream"'):
        callbacks(binary_format="file")  # type: ignore[arg-type]  # as a user might


def test_d7_a_callback_may_be_set_only_once() -> None:
    handlers = callbacks(on_text=print)
    handlers.set("on_binary", print)
    for name in ("on_text", "on_binary"):
        with pytest.raises(ValueError, match=f"{name} is set already"):
            handlers.set(name, print)
    with pytest.raises(ValueError, match="there is no callback 'on_error'"):
        handlers.set("on_error", print)

    async def on_close(*_: Any) -> None:
        pass

    with pytest.raises(TypeError, match="plain function"):
        handlers.set("on_close", on_close)


def test_listeners_are_handlers_everywhere() -> None:
    assert syncws.WebSocketUpgrade(Recorder()).options == syncws.Options()
    assert syncws.websocket(callbacks(on_text=print))


def test_methods_that_nobody_would_run_are_refused() -> None:
    with pytest.raises(TypeError, match="remove 'async'"):

        class Coroutine(syncws.Listener):
            async def on_text(self, *args: Any) -> None: ...  # type: ignore[override]  # that is the test

    with pytest.raises(TypeError, match="not a generator"):

        class Generator(syncws.Listener):
            def on_open(self, session: Any) -> Iterator[None]:
                yield
