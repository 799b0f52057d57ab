from __future__ import annotations

import contextlib
import copy
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

import syncws
from syncws import ConnectionClosed, ConnectionClosedError, InvalidMessage, Session
from syncws.testing import WebSocketClient


class Say(msgspec.Struct, tag=True):
    text: str


class Move(msgspec.Struct, tag=True):
    x: int
    y: int = 0


@dataclass
class Join:
    room: str


@dataclass
class Leave:
    room: str
    reason: str = ""


@dataclass
class WithType:
    type: str


class Greet(pydantic.BaseModel):
    kind: Literal["greet"] = "greet"
    name: str


class Wave(pydantic.BaseModel):
    kind: Literal["wave"] = "wave"
    times: int


Discriminated = Annotated[Greet | Wave, pydantic.Field(discriminator="kind")]


def client(form: Any, **options: Any) -> WebSocketClient:
    """A client of an application that answers with the repr of each value."""

    @syncws.websocket()
    def application(session: Session) -> None:
        for value in syncws.typed(session, form, **options):
            session.send(repr(value))

    return WebSocketClient(application)


@pytest.mark.parametrize(
    ("form", "values"),
    [
        (Say | Move, [Say("hi"), Move(1, 2)]),
        (Join, [Join("red")]),
        (Join | Leave, [Join("red"), Leave("blue", "bored")]),
        (Greet | Wave, [Greet(name="me"), Wave(times=3)]),
        (Discriminated, [Wave(times=3), Greet(name="me")]),
        (dict[str, Greet], [{"a": Greet(name="me")}]),
        (list[Move], [[Move(1)]]),
    ],
    ids=["structs", "a dataclass", "dataclasses", "models", "discriminated", "in a dict", "a list"],
)
def test_f10_values_of_declared_types_both_ways(form: Any, values: list[Any]) -> None:
    @syncws.websocket()
    def application(session: Session) -> None:
        messages = syncws.typed(session, form)
        for value in messages:
            messages.send(value)

    with WebSocketClient(application).connect("/") as peer:
        theirs = syncws.typed(peer, form)
        for value in values:
            theirs.send(value)
            assert theirs.receive() == value


def test_f10_both_ends_over_a_real_connection() -> None:
    @syncws.websocket()
    def application(session: Session) -> None:
        messages = syncws.typed(session, Say | Move)
        for value in messages:
            if isinstance(value, Say):
                messages.send(Move(len(value.text)), timeout=5)

    with (
        syncws.serve(application, "127.0.0.1", 0) as server,
        syncws.connect(f"ws://127.0.0.1:{server.port}/") as session,
    ):
        messages = syncws.typed(session, Move)
        messages.send(Say("four"))
        assert messages.receive(timeout=5) == Move(4)
        with pytest.raises(TimeoutError):
            messages.receive(timeout=0)


INVALID = [
    (Say | Move, "no json", 1007),
    (Say | Move, b"\xff", 1007),
    (Say | Move, '{"type": "Move", "x": "1"}', 1008),
    (Say | Move, '{"type": "Fly"}', 1008),
    (Say, "[" * 100_000, 1008),
    (Any, "[" * 100_000 + "]" * 100_000, 1008),
    (Join, "{", 1007),
    (Join, '{"room": 1}', 1008),
    (Join | Leave, '{"room": "red"}', 1008),
    (Join | Leave, "{", 1007),
    (Join | Leave, '{"type": "' + "é" * 200 + '"}', 1008),
    (Join | Leave, '{"type": "Leave", "room": 1}', 1008),
    (Greet | Wave, "{", 1007),
    (Greet | Wave, "[" * 100_000, 1007),
    (Greet | Wave, '{"kind": "greet"}', 1008),
    (Discriminated, '{"kind": "bow"}', 1008),
]


@pytest.mark.parametrize(("form", "message", "code"), INVALID)
def test_f10_an_invalid_message_closes_the_session(
    form: Any, message: str | bytes, code: int
) -> None:
    with client(form).connect("/") as peer:
        peer.send(message)
        with contextlib.suppress(ConnectionClosed):  # it may have been closed by now
            peer.send('{"type": "Say", "text": "behind it"}')
        reason = peer.wait_closed()
        assert reason.code == code
        assert reason.reason, "it says what was wrong"
        with pytest.raises(ConnectionClosedError):
            peer.receive()  # and what came behind it was not handled


def test_f10_an_invalid_message_is_raised() -> None:
    @syncws.websocket()
    def application(session: Session) -> None:
        messages = syncws.typed(session, Say, on_invalid="raise")
        with pytest.raises(InvalidMessage, match=r"Expected `str`.*`\$\.text`") as caught:
            messages.receive()
        assert (caught.value.code, caught.value.data) == (1008, '{"type": "Say", "text": 1}')
        messages.send(messages.receive())

    with WebSocketClient(application).connect("/") as peer:
        peer.send('{"type": "Say", "text": 1}')
        messages = syncws.typed(peer, Say)
        messages.send(Say("and on"))
        assert messages.receive() == Say("and on")


def test_f10_an_invalid_message_is_answered() -> None:
    answers: list[Callable[[InvalidMessage], object]] = [
        lambda invalid: {"error": str(invalid), "code": invalid.code},
        lambda invalid: None,
    ]
    with client(Say, on_invalid=lambda invalid: answers.pop(0)(invalid)).connect("/") as peer:
        peer.send("1")
        assert peer.receive_json() == {"error": "Expected `object`, got `int`", "code": 1008}
        peer.send("2")
        peer.send('{"type": "Say", "text": "hi"}')
        assert peer.receive() == repr(Say("hi")), "the second was not answered"


def test_dataclasses_are_sent_with_their_names() -> None:
    @syncws.websocket()
    def application(session: Session) -> None:
        messages = syncws.typed(session, Join)
        messages.send(Leave("red"))
        messages.send(WithType("mine"))
        messages.send({"x": Join("red")})

    with WebSocketClient(application).connect("/") as peer:
        assert peer.receive_json() == {"type": "Leave", "room": "red", "reason": ""}
        assert peer.receive_json() == {"type": "mine"}
        assert peer.receive_json() == {"x": {"room": "red"}}


def test_a_codec_of_ones_own() -> None:
    class Numbers:
        def decode(self, message: str | bytes) -> int:
            return int(message)

        def encode(self, value: int) -> str:
            return str(value)

    with client(Numbers()).connect("/") as peer:
        numbers = syncws.typed(peer, Numbers())
        numbers.send(7)
        assert peer.receive() == "7"
        peer.send("seven")
        reason = peer.wait_closed()
        assert (reason.code, reason.reason) == (
            1008,
            "invalid literal for int() with base 10: 'seven'",
        )


def test_what_can_not_be_is_refused(make_raw: Any, make_session: Any) -> None:
    raw, _ = make_raw()
    session, _ = make_session()
    with pytest.raises(TypeError, match="has frames"):
        syncws.typed(raw, Say)
    with pytest.raises(TypeError, match="on_invalid"):
        syncws.typed(session, Say, on_invalid="ignore")  # type: ignore[call-overload]  # refused
    with pytest.raises(TypeError, match="rename its field 'type'"):
        syncws.typed(session, Join | WithType)
    other: Any = type("Join", (Join,), {})
    with pytest.raises(TypeError, match="different names"):
        syncws.typed(session, Join | other)


def test_without_msgspec_the_error_says_what_to_install(
    make_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)

    @dataclass
    class Fresh:
        x: int

    session, _ = make_session()
    with pytest.raises(ImportError, match=r"pip install 'syncws\[typed\]'"):
        syncws.typed(session, Fresh)
    syncws.typed(session, Greet)  # needs none


def test_an_invalid_message_can_be_copied_and_pickled() -> None:
    error = InvalidMessage("wrong", "data", 1008)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(other), other.data, other.code) == ("wrong", "data", 1008)


def test_large_integers_and_floats_are_not_decoded_without_bound() -> None:
    with client(int).connect("/") as peer:
        peer.send("9" * 100_000)
        assert peer.wait_closed().code in (1007, 1008)


def test_what_msgspec_encodes_is_what_json_reads() -> None:
    with client(Say).connect("/") as peer:
        syncws.typed(peer, Say).send(Say("é\u2028"))
        assert peer.receive() == repr(Say("é\u2028"))
    assert json.loads(msgspec.json.encode(Say("é"))) == {"type": "Say", "text": "é"}
