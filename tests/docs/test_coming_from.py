"""The programs in ``from-websocket-client.md`` and ``from-websockets.md``: each pair prints the
same. Both programs of a pair run against one server."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

import syncws

from .blocks import DOCS, Block, blocks_of


def pairs() -> Iterator[Any]:
    for name in ("from-websocket-client.md", "from-websockets.md"):
        blocks = iter(blocks_of(DOCS / "coming-from" / name))
        for theirs, ours in itertools.zip_longest(blocks, blocks):
            yield pytest.param(theirs, ours, id=str(theirs))


@pytest.fixture(scope="module")
def server() -> Iterator[syncws.Server]:
    def handler(session: syncws.Session) -> None:
        if session.environ["PATH_INFO"] == "/bye":
            session.send("hello")
            session.send("bye")
        else:
            for message in session:
                session.send(message)

    with syncws.serve(handler, "127.0.0.1", 0) as server:
        yield server


@pytest.mark.parametrize(("theirs", "ours"), list(pairs()))
def test_both_programs_print_the_same(theirs: Block, ours: Block, server: syncws.Server) -> None:
    assert "syncws" not in theirs.code
    assert "import syncws" in ours.code
    printed = [output(block, server) for block in (theirs, ours)]
    assert printed[0] == printed[1] != ""


def output(block: Block, server: syncws.Server) -> str:
    code = block.code.replace("localhost:8000", f"127.0.0.1:{server.port}")
    namespace: dict[str, Any] = {"__name__": "program"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(block), "exec"), namespace)
    for name in ("shutdown_watcher", "shutdown_notifier"):
        # websockets before 17, which Python 3.10 has, leaves this pipe of its server open.
        if isinstance(fd := getattr(namespace.get("server"), name, None), int):
            os.close(fd)
    return printed.getvalue()
