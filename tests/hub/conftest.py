"""Hubs in memory and over a Redis of the tests' own: what both promise is tested with both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from syncws import Hub

from ..support.redis_server import RedisServer

#: Makes hubs that are one: over Redis each call gives another hub, in memory always the same.
MakeHub = Callable[..., Hub]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    made = RedisServer()
    yield made
    made.kill()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture(params=["memory", "redis"])
def make_hub(request: pytest.FixtureRequest, stack: ExitStack) -> MakeHub:
    server: RedisServer | None = None
    if request.param == "redis":
        server = request.getfixturevalue("server")
    made: list[Hub] = []

    def make(**options: Any) -> Hub:
        if server is None and made:
            return made[0]
        made.append(Hub(server.url if server is not None else None, **options))
        stack.callback(made[-1].close)
        return made[-1]

    return make
