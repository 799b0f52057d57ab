"""The programs in ``from-flask-sock.md``: each does the same with both libraries."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import websocket

from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from" / "from-flask-sock.md").read_text()
#: The pairs of programs, by heading.
PROGRAMS: dict[str, list[str]] = {
    section.partition("\n")[0]: programs
    for section in PAGE.split("\n## ")[1:]
    if (programs := re.findall(r"```python\n(.*?)```", section, re.DOTALL))
}


def connect(
    server: Server, path: str, subprotocols: list[str] | None = None
) -> websocket.WebSocket:
    return websocket.create_connection(
        server.url(path), timeout=PATIENCE, subprotocols=subprotocols
    )


def expect_close(client: websocket.WebSocket) -> tuple[int, str]:
    opcode, payload = client.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    client.shutdown()  # type: ignore[no-untyped-call]  # it has few types
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def an_echo(server: Server) -> None:
    client = connect(server, "/echo")
    for message in ("one", "two"):
        client.send(message)
        assert client.recv() == message
    client.send_binary(b"\x00")
    assert client.recv() == b"\x00"
    client.close()


def a_factory(server: Server) -> None:
    client = connect(server, "/echo")
    client.send("one")
    assert client.recv() == "one"
    client.send("close")
    assert expect_close(client)[0] == 1000
    client = connect(server, "/rooms/red")
    assert client.recv() == "this is red"
    assert expect_close(client) == (4001, "that is all")


def another_thread(server: Server) -> None:
    client = connect(server, "/ticks")
    assert [client.recv() for _ in range(3)] == ["tick 0", "tick 1", "tick 2"]
    client.send("hello")
    said = [client.recv()]
    while "hello" not in str(said[-1]):
        said.append(client.recv())
    assert said[-1] == "you said hello"
    client.close()


def a_time_out(server: Server) -> None:
    client = connect(server, "/impatient")
    assert client.recv() == "are you there?"
    client.send("yes")
    assert client.recv() == "yes"
    client.close()


def a_view_of_its_own(server: Server) -> None:
    client = connect(server, "/echo", ["upper"])
    assert client.subprotocol == "upper"
    client.send("hello")
    assert client.recv() == "HELLO"
    client.send("x" * 1001)
    assert expect_close(client)[0] == 1009


CONVERSATIONS: dict[str, Callable[[Server], None]] = {
    "An echo": an_echo,
    "An application factory, blueprints, and the end of a handler": a_factory,
    "Sending from another thread": another_thread,
    "A time-out": a_time_out,
    "simple-websocket, in a view of its own": a_view_of_its_own,
}


@pytest.mark.parametrize("heading", CONVERSATIONS)
def test_both_programs_do_the_same(heading: str, tmp_path: Path) -> None:
    before, after = PROGRAMS[heading]
    assert "syncws" not in before
    (tmp_path / "before.py").write_text(before)
    (tmp_path / "after.py").write_text(after)
    path = f"--pythonpath={tmp_path}"
    with gunicorn("before:app", path, "--threads=4", worker="gthread") as server:
        CONVERSATIONS[heading](server)
    with gunicorn("after:app", path) as server:
        CONVERSATIONS[heading](server)


def test_every_program_of_the_page_is_run() -> None:
    assert list(PROGRAMS) == list(CONVERSATIONS)
