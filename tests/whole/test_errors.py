"""Exceptions can be copied, as some libraries do, and pickled, as process pools do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import syncws
from syncws import CloseReason, ConnectionClosed, HandshakeError

from ..conftest import MakeRaw, MakeSession

KINDS = [
    syncws.ConnectionClosed,
    syncws.ConnectionClosedOK,
    syncws.ConnectionClosedError,
    syncws.SendTimeoutError,
]

REASON = CloseReason(1001, "bye", "peer")


class OfAnApplication(syncws.ConnectionClosedError):
    """A subclass, in an application, with its own ``__init__()``."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        self.args = (detail,)
        self.reason = REASON


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_about_the_same_session(
    make_session: MakeSession, kind: type[ConnectionClosed], copied: Callable[[Any], Any]
) -> None:
    session, _ = make_session()
    error: Any = kind(REASON, session)
    error.tenant = "a"  # as error monitors do
    again = copied(error)
    assert type(again).__name__ == kind.__name__
    assert again.session is session
    assert (str(again), again.args, again.reason) == (str(error), error.args, REASON)
    assert again.tenant == "a"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_leaves_the_session_behind(
    make_session: MakeSession, kind: type[ConnectionClosed], protocol: int
) -> None:
    session, _ = make_session()
    error: Any = kind(REASON, session)
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again).__name__ == kind.__name__
    assert again.session is None
    assert (str(again), again.args, again.reason) == (str(error), error.args, REASON)
    assert error.session is session, "the one that was pickled is as it was"


def test_a_subclass_is_copied_without_its_init() -> None:
    error = OfAnApplication("why")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (again.detail, again.args, again.reason) == ("why", ("why",), REASON)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_refused_handshake_is_copied_whole(again: Callable[[Any], Any]) -> None:
    error = again(HandshakeError(403, [("A", "b")], b"no", "the server said no"))
    assert (error.status, error.headers, error.body) == (403, [("A", "b")], b"no")
    assert str(error) == "the server said no"


@pytest.mark.parametrize("act", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_session_is_neither_copied_nor_pickled(
    make_session: MakeSession, make_raw: MakeRaw, act: Callable[[Any], Any]
) -> None:
    for session in (make_session()[0], make_raw()[0]):
        with pytest.raises(TypeError, match="a session belongs to its process"):
            act(session)
