"""The sessions of a process: their statistics, and how they end when a server stops."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import syncws
from syncws import CloseReason
from syncws.session import registry
from syncws.session.registry import Registry

from ..conftest import MakeSession
from ..support.background import Background
from ..support.clients import connect
from ..support.pairs import PATIENCE
from ..support.servers import ROOT, werkzeug


@pytest.fixture
def made() -> Registry:
    return Registry()


def test_figures(made: Registry, make_session: MakeSession) -> None:
    first, peer = make_session()
    second, _ = make_session()
    made.add(first)
    made.add(second)
    made.refused(400)
    peer.send("five!")
    assert first.receive(PATIENCE) == "five!"
    first.send(b"bin")
    first.send(["in ", "parts"])
    peer.send("as a file")
    assert first.receive_stream(PATIENCE).read() == "as a file"
    open_stats = made.stats()
    assert (open_stats.open, open_stats.opened, open_stats.closed) == (2, 2, {})
    assert (open_stats.messages_received, open_stats.messages_sent) == (2, 2)
    assert open_stats.bytes_received == 6 + 5 + 6 + 9
    assert open_stats.bytes_sent == 2 + 3 + 2 + 3 + 2 + 5 + 2
    first.terminate()
    first._conclude(CloseReason())
    made.remove(first)
    made.remove(first)
    after = made.stats()
    assert (after.open, after.opened, after.closed, after.refused) == (1, 2, {"local": 1}, 1)
    assert after.messages_sent == 2, "what has ended still counts"
    assert after.bytes_received == open_stats.bytes_received


def test_drain_tells_all_and_those_to_come(made: Registry, make_session: MakeSession) -> None:
    peers = []
    for _ in range(3):
        session, peer = make_session()
        made.add(session)
        peers.append(peer)
    made.drain()
    late, late_peer = make_session()
    made.add(late)
    for peer in [*peers, late_peer]:
        assert peer.answer_close() == (1001, "")


def test_one_server_drains_and_another_does_not(made: Registry, make_session: MakeSession) -> None:
    class Server:
        pass

    stopping, other = Server(), Server()
    (first, first_peer), (second, second_peer) = make_session(), make_session()
    made.add(first, stopping)
    made.add(second, other)
    made.drain(stopping)
    late, late_peer = make_session()
    made.add(late, stopping)
    for peer in (first_peer, late_peer):
        assert peer.answer_close() == (1001, "")
    second.send("goes on")
    assert second_peer.receive() == "goes on"


def test_the_end_of_the_interpreter_waits_for_sessions_but_not_for_ever(
    made: Registry, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.drain_at_exit()
    session, peer = make_session()
    made.add(session)
    ending = Background(made.drain_at_exit)
    assert peer.answer_close() == (1001, "")
    session.wait_closed(PATIENCE)
    made.remove(session)
    ending.result()
    stays, _ = make_session()
    made.add(stays)
    monkeypatch.setattr(registry, "AT_EXIT", 0.01)
    made.drain_at_exit()
    assert made.stats().open == 1


def test_stats_are_of_this_process() -> None:
    code = (
        "import os, syncws; from syncws.session.registry import REGISTRY; REGISTRY.refused(400);"
        "pid = os.fork();"
        "pid and os.waitpid(pid, 0);"
        "print(syncws.stats().refused, flush=True)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.split() == ["0", "1"]
    assert isinstance(syncws.stats(), syncws.Stats)


@pytest.mark.parametrize("arguments", [["--no-reload"], ["--reload"]])
def test_ctrl_c_ends_the_development_server_cleanly(arguments: list[str]) -> None:
    import os
    import signal

    with werkzeug("tests.support.app:app", *arguments) as server:
        if "--reload" in arguments:
            server.wait_for_line("Restarting with")
            server.wait_for_line("Debugger|Restarting")
        peer: Any = None
        while peer is None:
            try:
                peer = connect(server.port, "/echo")
            except ConnectionError:
                continue  # it is restarting
        peer.send("hello")
        assert peer.receive() == "hello"
        # The standard library's server closes the connection whose thread it is just starting
        # when Ctrl-C comes. So that has to be another one.
        server.get("/")
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does it
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        server.wait()
        assert "Traceback" not in server.output
