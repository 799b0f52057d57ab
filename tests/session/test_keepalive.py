"""The rules of the keepalive, tested with given times instead of a clock."""

from __future__ import annotations

from syncws.session.keepalive import Keepalive, Signs

SILENT = Signs(received=100, acknowledged=50, unread=False)


def waiting(*, ping_ends_at: int = 60, interval: float = 20.0, timeout: float = 5.0) -> Keepalive:
    """A keepalive that sent its ping at time 20."""
    keepalive = Keepalive(interval, timeout)
    keepalive.start(0.0)
    assert not keepalive.is_due(19.9)
    assert keepalive.is_due(20.0)
    keepalive.pinging(20.0)
    keepalive.begin_waiting(SILENT, ping_ends_at)
    return keepalive


def test_without_an_interval_nothing_is_ever_due() -> None:
    keepalive = Keepalive(None, 5.0)
    keepalive.start(0.0)
    assert not keepalive.is_due(1e9)
    assert keepalive.next_look(None) is None


def test_pings_are_due_at_the_interval() -> None:
    keepalive = waiting()
    assert keepalive.next_look(None) == 40.0
    assert not keepalive.is_due(39.9)
    assert keepalive.is_due(40.0)


def test_a_silent_peer_is_dead_after_the_timeout() -> None:
    keepalive = waiting()
    assert keepalive.next_look(20.0) == 25.0
    assert not keepalive.is_dead(24.9, 20.0, SILENT)
    assert keepalive.is_dead(25.0, 20.0, SILENT)


def test_any_byte_is_a_sign_of_life() -> None:
    keepalive = waiting()
    assert not keepalive.is_dead(24.0, 20.0, SILENT._replace(received=101))
    assert keepalive.next_look(20.0) == 29.0
    assert not keepalive.is_dead(28.9, 20.0, SILENT._replace(received=101))
    assert keepalive.is_dead(29.0, 20.0, SILENT._replace(received=101))


def test_unread_bytes_are_a_sign_of_life() -> None:
    keepalive = waiting()
    assert not keepalive.is_dead(1000.0, 20.0, SILENT._replace(unread=True))


def test_the_time_of_a_peer_begins_when_it_is_not_held_back_any_more() -> None:
    """Nobody knows when that was: a thread may be at work on what it has read just now."""
    keepalive = waiting()
    assert not keepalive.is_dead(30.0, 20.0, SILENT._replace(unread=True))
    assert not keepalive.is_dead(35.0, 20.0, SILENT)
    assert keepalive.next_look(20.0) == 40.0
    assert keepalive.is_dead(40.0, 20.0, SILENT)


def test_a_peer_held_back_when_it_is_pinged_has_its_time_too() -> None:
    keepalive = waiting()
    keepalive.begin_waiting(SILENT._replace(unread=True), 60)
    assert not keepalive.is_dead(25.0, 20.0, SILENT)
    assert keepalive.is_dead(30.0, 20.0, SILENT)


def test_progress_in_front_of_the_ping_is_a_sign_of_life() -> None:
    keepalive = waiting(ping_ends_at=60)
    assert not keepalive.is_dead(30.0, 20.0, SILENT._replace(acknowledged=55))
    assert keepalive.is_dead(35.0, 20.0, SILENT._replace(acknowledged=55)), "no more progress"


def test_once_the_ping_has_arrived_only_the_peer_counts() -> None:
    keepalive = waiting(ping_ends_at=60)
    assert keepalive.is_dead(25.0, 20.0, SILENT._replace(acknowledged=60))
