"""The sessions that are told when a server goes away."""

from __future__ import annotations

from syncws.sessions import OpenSessions

from .conftest import MakeSession


def test_all_are_told_at_once_and_those_that_come_later(make_session: MakeSession) -> None:
    sessions = OpenSessions()
    here = [make_session() for _ in range(2)]
    gone, other = make_session()
    for session, _ in [*here, (gone, other)]:
        sessions.add(session)
    sessions.remove(gone)
    sessions.go_away()
    late = make_session()
    sessions.add(late[0])
    for _, peer in [*here, late]:
        assert peer.answer_close() == (1001, "")
    for session, _ in [*here, late]:
        assert session.wait_closed(10).cause == "shutdown"
    gone.send("still here")
    assert other.receive() == "still here"
