"""Tests of the chat. ``python -m pytest`` in this folder runs them."""

from typing import Any

import pytest
from app import app

from syncws import HandshakeError
from syncws.testing import Peer, WebSocketClient


def enter(name: str, room: str, after: str = "") -> Peer:
    """Log in as a browser does, and open a session."""
    browser = app.test_client()
    browser.post("/login", data={"name": name})
    return WebSocketClient(app, cookies=browser).connect(f"/rooms/{room}?after={after}")


def next_with(peer: Peer, key: str) -> Any:
    """The peer's next message that has this key."""
    while key not in (message := peer.receive_json()):
        pass
    return message


def test_a_stranger_has_to_log_in() -> None:
    with pytest.raises(HandshakeError) as refused:
        WebSocketClient(app).connect("/rooms/red")
    assert refused.value.status == 302


def test_everybody_reads_what_is_said() -> None:
    with enter("Ann", "blue") as ann, enter("Bob", "blue") as bob:
        next_with(bob, "members")  # Bob is in the room
        ann.send("hello")
        said = next_with(bob, "text")
        assert (said["name"], said["text"]) == ("Ann", "hello")
        assert next_with(ann, "text") == said


def test_everybody_sees_who_is_there() -> None:
    with enter("Ann", "green") as ann, enter("Bob", "green"):
        while next_with(ann, "members")["members"] != ["Ann", "Bob"]:
            pass


def test_who_comes_back_gets_what_was_missed() -> None:
    with enter("Ann", "grey") as ann:
        ann.send("one")
        last = next_with(ann, "text")["id"]
        ann.send("two")
        next_with(ann, "text")
    with enter("Ann", "grey", after=last) as ann:
        assert next_with(ann, "text")["text"] == "two"
