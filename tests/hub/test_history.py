"""What a room remembers: ids, what was missed, and what can not be known."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from wsproto.events import CloseConnection, TextMessage

from syncws import History, Hub, PreparedMessage
from syncws.hub import history, joining
from syncws.hub.history import to_envelope
from syncws.hub.wire import Position

from ..conftest import MakeSession
from ..support.background import BIG, Background, wait_until
from ..support.pairs import PATIENCE, Peer
from ..support.redis_server import RedisServer
from .conftest import MakeHub


def ids(peer: Peer, number: int) -> list[str]:
    return [json.loads(peer.receive())["id"] for _ in range(number)]


def numbers(messages: list[Any]) -> list[int]:
    return [json.loads(message)["n"] for message in messages]


def test_f3_a_member_gets_what_it_has_missed_and_then_what_comes(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    here, there = make_hub(history=History()), make_hub(history=History())
    (first, one), (second, two) = make_session(), make_session()
    with here.join("a", first) as joined:
        assert not joined.gap
        assert joined.last_id is not None, "the beginning of the room"
        sent = [there.send_json("a", {"n": n}) for n in range(5)]
        assert ids(one, 5) == sent
    there.send_json("b", {"n": 99})
    sent += [there.send_json("a", {"n": n}) for n in range(5, 10)]
    with here.join("a", second, after=sent[4]) as joined:
        assert not joined.gap
        sent.append(here.send_json("a", {"n": 10}))
        assert ids(two, 6) == sent[5:]
    with there.join("a", first, after=sent[-1]) as joined:
        assert not joined.gap, "nothing was missed"
        assert joined.last_id == sent[-1]
        last = here.send_json("a", {"n": 11})
        assert ids(one, 1) == [last]


def test_a_client_that_leaves_before_the_first_message_misses_nothing(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    here, there = make_hub(history=History()), make_hub(history=History())
    session, peer = make_session()
    with here.join("a", session) as joined:
        place = joined.last_id
    for _ in range(2):
        with there.join("a", session, after=place) as joined:
            assert not joined.gap, "nothing has been sent"
            place = joined.last_id
    assert here.history("a", after=place) == []
    sent = [here.send_json("a", {"n": n}) for n in range(3)]
    assert numbers(here.history("a", after=place)) == [0, 1, 2]
    with there.join("a", session, after=place) as joined:
        assert not joined.gap
        sent.append(here.send_json("a", {"n": 3}))
        assert ids(peer, 4) == sent


def test_a_client_that_left_an_empty_room_is_told_of_what_is_no_longer_kept(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    hub = make_hub(history=History(messages=2))
    session, peer = make_session()
    with hub.join("a", session) as joined:
        place = joined.last_id
    for n in range(3):
        hub.send_json("a", {"n": n})
    with hub.join("a", session, after=place) as joined:
        assert joined.gap
        assert numbers([peer.receive() for _ in range(2)]) == [1, 2]


@pytest.mark.parametrize("messages", [0, 1])
def test_a_redis_that_has_lost_an_empty_room_is_a_gap(
    server: RedisServer, stack: ExitStack, make_session: MakeSession, messages: int
) -> None:
    """Messages may have been sent, and lost, while the client was away."""
    hub = Hub(server.url, history=History())
    stack.callback(hub.close)
    session, _ = make_session()
    with hub.join("a", session) as joined:
        place = joined.last_id
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    for _ in range(messages):
        hub.send("a", "x")
    with hub.join("a", session, after=place) as joined:
        assert joined.gap
        assert joined.last_id not in (None, place)


def test_looking_at_a_room_leaves_nothing_in_redis(server: RedisServer, stack: ExitStack) -> None:
    """A page may ask for any room."""
    hub = Hub(server.url, history=History())
    stack.callback(hub.close)
    assert hub.history("a") == hub.history("a", after="ffffffff-0-0") == []
    with redis.Redis.from_url(server.url) as client:
        assert client.keys() == []


def test_a_room_in_memory_that_was_forgotten_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("syncws.hub.history.time.time", lambda: now)
    log = history.MemoryLog(History(seconds=10))
    message = to_envelope("x", None, bytes(16), bytes(16))

    def append(room: str) -> Position:
        return log.append(room, message, lambda _: None)

    empty = log.read("a", None, 1).last
    assert not log.read("a", empty, 1).gap
    first = append("a")
    now += history.POSITION_KEPT + 11
    assert log.read("a", first, 1) == ([], False, first), "it has the last message"
    append("b")  # which forgets the room
    for position in (empty, first):
        assert log.read("a", position, 1).gap, "the room was forgotten since then"
    later = log.read("a", None, 1).last
    for _ in range(2):
        append("a")
    for position in (empty, first):
        assert log.read("a", position, 1).gap
    missed = log.read("a", later, 5)
    assert (len(missed.messages), missed.gap) == (2, False)


def test_large_messages_are_read_in_portions(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    """Each read gives as many as make a megabyte."""
    hub = Hub(server.url, history=History())
    stack.callback(hub.close)
    sent = [hub.send_json("a", {"n": n, "x": "x" * 700_000}) for n in range(5)]
    assert [len(hub._bus.read("a", None, limit).messages) for limit in (1, 5)] == [1, 2]
    assert numbers(hub.history("a")) == [0, 1, 2, 3, 4]
    assert numbers(hub.history("a", limit=3)) == [2, 3, 4]
    assert numbers(hub.history("a", after=sent[0], limit=3)) == [1, 2, 3]
    session, peer = make_session(timeout=PATIENCE)
    joining = Background(hub.join, "a", session, after=sent[0])
    assert ids(peer, 4) == sent[1:]
    assert not joining.result().gap
    joining.result().leave()


def test_the_history_of_a_room(make_hub: MakeHub) -> None:
    hub = make_hub(history=History())
    assert hub.history("a") == []
    sent = [hub.send_json("a", {"n": n}) for n in range(10)]
    assert numbers(hub.history("a")) == list(range(10))
    assert [json.loads(each)["id"] for each in hub.history("a")] == sent
    assert numbers(hub.history("a", limit=3)) == [7, 8, 9]
    assert numbers(hub.history("a", after=sent[2], limit=3)) == [3, 4, 5]
    assert hub.history("a", after=sent[-1]) == []
    assert numbers(hub.history("a", after="ffffffff-1-1", limit=2)) == [8, 9]
    assert numbers(hub.history("a", after="nonsense", limit=2)) == [8, 9]
    with pytest.raises(ValueError, match="limit is at least 1"):
        hub.history("a", limit=0)


def test_what_is_no_longer_kept_is_a_gap(make_hub: MakeHub, make_session: MakeSession) -> None:
    hub = make_hub(history=History(messages=3))
    session, peer = make_session()
    sent = [hub.send_json("a", {"n": n}) for n in range(10)]
    for after, gap, gets in (
        (sent[9], False, []),
        (sent[6], False, [7, 8, 9]),
        (sent[4], True, [7, 8, 9]),
        (sent[0], True, [7, 8, 9]),
    ):
        with hub.join("a", session, after=after) as joined:
            assert joined.gap == gap, after
            hub.send_json("b", {})
            assert numbers([peer.receive() for _ in gets])[-3:] == gets
    assert len(hub.history("a")) == 3


@pytest.mark.parametrize(
    "after",
    [
        "ffffffff-1-1",
        "x",
        "0",
        "-",
        "ffffffff-99999999999999999999-1",
        "\ud800",
        "ffffffff-\u0661-\u0662",
        "ffffffff-1-1\n",
        "a" * 100_000,
    ],
)
def test_an_id_that_is_not_known_is_a_gap(
    make_hub: MakeHub, make_session: MakeSession, after: str
) -> None:
    hub = make_hub(history=History())
    session, peer = make_session()
    hub.send_json("a", {"n": 1})
    with hub.join("a", session, after=after) as joined:
        assert joined.gap
        hub.send_json("a", {"n": 2})
        assert numbers([peer.receive()]) == [2]


def test_an_id_of_the_future_is_a_gap(make_hub: MakeHub, make_session: MakeSession) -> None:
    hub = make_hub(history=History())
    session, _ = make_session()
    position = Position.parse(hub.send("a", "x"))
    assert position is not None
    for other in (position._replace(number=2), position._replace(epoch="00000000")):
        with hub.join("a", session, after=other.id) as joined:
            assert joined.gap


def test_messages_are_forgotten_in_time(make_hub: MakeHub, make_session: MakeSession) -> None:
    hub = make_hub(history=History(seconds=0.2))
    session, _ = make_session()
    sent = [hub.send("a", "one"), hub.send("a", "two")]
    wait_until(lambda: hub.history("a") == [])
    with hub.join("a", session, after=sent[0]) as joined:
        assert joined.gap
    with hub.join("a", session, after=sent[1]) as joined:
        assert not joined.gap, "it has the last one"
    sent.append(hub.send("a", "three"))
    assert hub.history("a") == ["three"]


def test_where_the_id_stands(make_hub: MakeHub, make_session: MakeSession) -> None:
    def stamp(message: str | bytes, id: str) -> str | bytes:
        if isinstance(message, bytes):
            return id.encode() + b" " + message
        return f"{id} {message}"

    hub = make_hub(history=History(key="#", stamp=stamp))
    session, peer = make_session()
    with hub.join("a", session):
        for message, received in (
            ('{"x":1}', '{{"#":"{0}","x":1}}'),
            (' {"x": [1, "ä"]}\n', '{{"#":"{0}","x": [1, "ä"]}}'),
            ("{}", '{{"#":"{0}"}}'),
            ("{ }", '{{"#":"{0}"}}'),
            ('{"#":"mine","x":1}', '{{"#":"{0}","x":1}}'),
            ("[1]", "{0} [1]"),
            ("{not JSON", "{0} {{not JSON"),
            ("text", "{0} text"),
            ("", "{0} "),
            ("{" * 5000, "{0} " + "{{" * 5000),
        ):
            id = hub.send("a", message)
            assert peer.receive() == received.format(id)
        id = hub.send("a", PreparedMessage(b"\x00\xff"))
        assert peer.receive() == str(id).encode() + b" \x00\xff"
        assert hub.history("a", limit=1) == [str(id).encode() + b" \x00\xff"]


def test_without_a_stamp_other_messages_are_sent_as_they_are(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    hub = make_hub(history=History())
    session, peer = make_session()
    with hub.join("a", session):
        assert hub.send("a", "text")
        assert hub.send("a", b"binary")
        assert [peer.receive(), peer.receive()] == ["text", b"binary"]
    assert hub.history("a") == ["text", b"binary"]


def test_the_excluded_session_is_told_nothing_wherever_it_is(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    for options in ({}, {"history": History()}):
        here, there = make_hub(**options), make_hub(**options)
        (first, one), (second, two) = make_session(), make_session()
        with here.join("a", first), there.join("a", second):
            here.send("a", "for the first", exclude=second)
            there.send("a", "for the second", exclude=first)
            here.send("a", "for both")
            assert [one.receive(), one.receive()] == ["for the first", "for both"]
            assert [two.receive(), two.receive()] == ["for the second", "for both"]


def test_all_members_get_all_messages_in_one_order(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    hubs = [make_hub(history=History(), queue=10_000) for _ in range(2)]
    made = [make_session() for _ in range(4)]
    with ExitStack() as rooms:
        for number, (session, _) in enumerate(made):
            rooms.enter_context(hubs[number % 2].join("a", session))

        def send(hub: Hub, name: str) -> list[Any]:
            return [hub.send_json("a", {"name": name, "n": n}) for n in range(100)]

        senders = [Background(send, hubs[n % 2], str(n)) for n in range(4)]
        received = [[peer.receive() for _ in range(400)] for _, peer in made]
        assert received[0] == received[1] == received[2] == received[3]
        order = [Position.parse(json.loads(each)["id"]) for each in received[0]]
        assert [each.number for each in order if each] == list(range(1, 401))
        for sender in senders:
            sender.result()


def test_joining_while_messages_are_sent_misses_none_and_doubles_none(
    make_hub: MakeHub, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "BATCH", 7)
    # A queue smaller than what is sent meanwhile: the log has what finds no room in it.
    hub, sender = (make_hub(history=History(messages=10_000), queue=50) for _ in range(2))
    first = sender.send_json("a", {"n": -1})
    made = [make_session() for _ in range(8)]
    begin = [threading.Event() for _ in made]
    joined = [threading.Event() for _ in made]
    over = threading.Event()

    def send() -> None:
        for number in range(400):
            sender.send_json("a", {"n": number})
            if number % 50 == 10:
                begin[number // 50].set()
            for each, event in enumerate(joined):
                # So far ahead of one that has just joined, and no further.
                if number > each * 50 + 160:
                    assert event.wait(PATIENCE)

    def member(number: int) -> list[int]:
        session, peer = made[number]
        reading = Background(lambda: numbers([peer.receive() for _ in range(400)]))
        assert begin[number].wait(PATIENCE)
        with hub.join("a", session, after=first) as membership:
            joined[number].set()
            received: list[int] = reading.result()
            assert not membership.gap
            over.wait(PATIENCE)
        return received

    members = [Background(member, number) for number in range(len(made))]
    Background(send).result(3 * PATIENCE)
    over.set()
    for each in members:
        assert each.result(3 * PATIENCE) == list(range(400))


def test_a_member_slower_than_its_room_is_disconnected(
    make_hub: MakeHub, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "AHEAD", 2)
    hub, sender = (make_hub(history=History(messages=10_000), queue=10) for _ in range(2))
    session, peer = make_session()
    first = sender.send("a", "first")
    for number in range(20):
        sender.send("a", str(number))
    send = session.send

    def sent_meanwhile(message: Any, timeout: float | None = None) -> None:
        for _ in range(3):
            sender.send("a", "more")
        send(message, timeout)

    monkeypatch.setattr(session, "send", sent_meanwhile)
    joined = hub.join("a", session, after=first)
    assert joined.gap
    assert hub.dropped["disconnect"] >= 1
    while isinstance(event := peer.next_event(), TextMessage):
        pass
    assert isinstance(event, CloseConnection)
    assert event.code == 1013


def test_a_member_that_reads_nothing_holds_up_nobody_while_it_is_replayed_to(
    make_hub: MakeHub, make_session: MakeSession
) -> None:
    hub = make_hub(history=History())
    (slow, slow_peer), (quick, quick_peer) = (make_session(ping_interval=None) for _ in range(2))
    first = hub.send("a", "first")
    hub.send("a", BIG)
    joining_slowly = Background(hub.join, "a", slow, after=first)
    wait_until(lambda: slow._traffic().bytes_sent)
    with hub.join("a", quick):
        for number in range(50):
            hub.send("a", str(number))
            assert quick_peer.receive() == str(number)
    assert slow_peer.receive() == BIG
    assert [slow_peer.receive() for _ in range(50)] == [str(n) for n in range(50)]
    joining_slowly.result().leave()


def test_options_of_a_history_that_can_not_be(make_session: MakeSession) -> None:
    impossible: list[dict[str, Any]] = [
        {"messages": 0},
        {"messages": -1},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
    ]
    for options in impossible:
        with pytest.raises(ValueError, match="is"):
            History(**options)
    wrong: list[dict[str, Any]] = [
        {"messages": 1.5},
        {"messages": True},
        {"seconds": "1"},
        {"key": 1},
        {"stamp": 1},
    ]
    for options in wrong:
        with pytest.raises(TypeError, match="is"):
            History(**options)
    with pytest.raises(TypeError, match="history is a syncws"):
        Hub(history=500)  # type: ignore[arg-type]  # as a user might
    hub = Hub()
    with pytest.raises(ValueError, match="after= needs a history"):
        hub.join("a", make_session()[0], after="x")
    with pytest.raises(ValueError, match="needs one"):
        hub.history("a")


def test_rooms_in_memory_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncws.hub.history.POSITION_KEPT", 0.0)
    hub = Hub(history=History(seconds=0.01))
    for number in range(20):
        hub.send(f"room {number}", "x")
    log: Any = getattr(hub._bus, "_log")  # noqa: B009  # of the bus in memory only
    wait_until(lambda: hub.history("room 0") == [])

    def forgotten() -> bool:
        hub.send("another", "x")
        return list(log._rooms) == ["another"]

    wait_until(forgotten)


def test_what_was_missed_while_the_connection_was_lost_is_caught_up_with(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here, there = (Hub(server.url, history=History()) for _ in range(2))
    stack.callback(here.close)
    stack.callback(there.close)
    session, peer = make_session()
    with redis.Redis.from_url(server.url) as client, here.join("a", session) as joined:
        sent = [there.send_json("a", {"n": 0})]
        for number in range(1, 20):
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            sent.append(there.send_json("a", {"n": number}))
        assert ids(peer, 20) == sent
        assert not joined.gap
        assert here.gaps > 0


def test_a_redis_that_has_lost_a_room_is_a_gap(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    here, there = (Hub(server.url, history=History()) for _ in range(2))
    stack.callback(here.close)
    stack.callback(there.close)
    session, peer = make_session()
    with here.join("a", session) as joined:
        sent = [there.send_json("a", {"n": n}) for n in range(3)]
        assert ids(peer, 3) == sent
        server.kill()
        server.start()
        wait_until(lambda: here.connected)
        assert joined.gap
        sent = [there.send_json("a", {"n": n}) for n in range(3, 6)]
        assert numbers([peer.receive() for _ in range(3)]) == [3, 4, 5]
    with here.join("a", session, after=sent[0]) as joined:
        assert not joined.gap
        assert numbers([peer.receive() for _ in range(2)]) == [4, 5]


def test_a_log_that_was_evicted_alone_is_a_gap(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    hub = Hub(server.url, history=History())
    stack.callback(hub.close)
    session, _ = make_session()
    sent = [hub.send("a", str(n)) for n in range(3)]
    with redis.Redis.from_url(server.url) as client:
        client.delete("syncws:2:0::{room:a}:log")
        with hub.join("a", session, after=sent[0]) as joined:
            assert joined.gap
        sent = [hub.send("a", str(n)) for n in range(3)]
        client.delete("syncws:2:0::{room:a}:last")
        with hub.join("a", session, after=sent[0]) as joined:
            assert joined.gap
        assert hub.send("a", "x")
        assert hub.history("a") == ["x"]


def test_a_failover_that_lost_messages_is_a_gap_even_when_numbers_come_again(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    hub = Hub(server.url, history=History())
    stack.callback(hub.close)
    session, peer = make_session()
    keys = ["syncws:2:0::{room:a}:log", "syncws:2:0::{room:a}:last"]
    with redis.Redis.from_url(server.url) as client:
        hub.send("a", "0")
        before = [client.dump(key) for key in keys]
        lost = [hub.send("a", "lost 1"), hub.send("a", "lost 2")]
        taken = client.time()
        wait_until(lambda: client.time() > (taken[0], taken[1] + 1000))
        for key, value in zip(keys, before, strict=True):
            client.restore(key, 0, value, replace=True)
        kept = [hub.send("a", str(n)) for n in range(1, 4)]
        for after in lost:
            with hub.join("a", session, after=after) as joined:
                assert joined.gap, "a number is not an id"
        with hub.join("a", session, after=kept[0]) as joined:
            assert not joined.gap
            assert [peer.receive(), peer.receive()] == ["2", "3"]


def test_a_room_that_gets_messages_while_its_member_hears_of_none_catches_up(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    """The Redis has lost a publication, for a reason of its own: the next one tells."""
    here, there = (Hub(server.url, history=History()) for _ in range(2))
    stack.callback(here.close)
    stack.callback(there.close)
    session, peer = make_session()
    with redis.Redis.from_url(server.url) as client, here.join("a", session):
        there.send("a", "heard")
        assert peer.receive() == "heard"
        client.execute_command("ACL", "SETUSER", "default", "resetchannels")
        client.execute_command("ACL", "SETUSER", "default", "allchannels")
        there.send("a", "again")
        assert peer.receive(PATIENCE) == "again"


def test_what_was_sent_to_a_redis_that_came_back_empty_is_delivered(
    server: RedisServer, stack: ExitStack, make_session: MakeSession
) -> None:
    """Before the members' process has subscribed again."""
    here, there = (Hub(server.url, history=History(messages=300)) for _ in range(2))
    stack.callback(here.close)
    stack.callback(there.close)
    session, peer = make_session()
    with here.join("a", session) as joined:
        there.send_json("a", {"n": -1})
        assert numbers([peer.receive()]) == [-1]
        listener: Any = getattr(here._bus, "_listener")  # noqa: B009  # of the bus over Redis
        listen, let = listener._listen, threading.Event()

        def late() -> None:
            assert let.wait(PATIENCE)
            listen()

        listener._listen = late
        server.kill()
        server.start()
        sent = [there.send_json("a", {"n": n}) for n in range(150)]
        let.set()
        assert ids(peer, 150) == sent
        assert joined.gap
