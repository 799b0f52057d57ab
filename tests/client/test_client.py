"""connect() against servers that do just what a test tells them, and against real ones."""

from __future__ import annotations

import contextlib
import os
import select
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import Server as WebsocketsServer
from websockets.sync.server import ServerConnection, unix_serve
from websockets.sync.server import serve as websockets_serve
from websockets.typing import Subprotocol

import syncws
from syncws import (
    ClientSession,
    CloseReason,
    HandshakeError,
    connect,
)
from syncws.client import network
from syncws.system.scheduler import SCHEDULER

from ..support import faults
from ..support.background import (
    BIG,
    Background,
    closed,
    wait_until,
)
from ..support.listening import Listener, drop, nothing_is_left_of
from ..support.pairs import PATIENCE, Peer, frame
from ..support.servers import gunicorn
from ..support.serving import echo

pytestmark = pytest.mark.usefixtures("quick_stand_in")


def is_silent(peer: Peer) -> bool:
    """Whether nothing comes for a moment: no end of the stream either."""
    return not select.select([peer.socket], [], [], 0.1)[0]


# The session


def test_messages_both_ways(listener: Listener) -> None:
    session, peer = listener.connect()
    session.send("héllo")
    assert peer.receive() == "héllo"
    peer.send(b"bytes")
    assert session.receive(PATIENCE) == b"bytes"
    session.send(iter(["in ", "fragments"]))
    assert peer.receive() == "in fragments"
    peer.send_close(1000, "bye")
    assert peer.expect_close() == (1000, "bye")
    peer.close_socket()
    assert session.wait_closed(PATIENCE) == CloseReason(1000, "bye", "peer")
    session.close()


def test_c8_our_client_masks_by_default(listener: Listener) -> None:
    session, peer = listener.connect()
    session.send("x")
    assert peer.socket.recv(100)[:2] == b"\x81\x81"
    drop(session)


def test_c8_masking_can_be_turned_off_to_test_a_server(listener: Listener) -> None:
    session, peer = listener.connect(masking=False)
    session.send("x")
    assert peer.socket.recv(100) == b"\x81\x01x"
    drop(session)


def test_c8_a_masked_frame_from_a_server_fails_the_connection(listener: Listener) -> None:
    session, peer = listener.connect()
    peer.send_bytes(frame(1, b"fine", masked=False) + frame(1, b"masked", masked=True))
    assert session.receive(PATIENCE) == "fine"
    with pytest.raises(syncws.ConnectionClosedError):
        session.receive(PATIENCE)
    assert peer.expect_close()[0] == 1002
    peer.close_socket()
    assert session.wait_closed(PATIENCE).cause == "protocol_error"


def test_bytes_right_behind_the_answer_are_the_first_message(listener: Listener) -> None:
    behind = frame(1, b"first", masked=False) + frame(2, b"sec", masked=False)[:3]
    session, peer = listener.connect(behind=behind)
    peer.send_bytes(b"ec")
    assert session.receive(PATIENCE) == "first"
    assert session.receive(PATIENCE) == b"sec"
    drop(session)


def test_what_a_session_knows_of_its_opening(listener: Listener) -> None:
    opening = Background(listener.open, "Sec-WebSocket-Protocol: b", "Set-Cookie: c=1")
    session = connect(listener.url + "a%20b?c", subprotocols=["a", "b"])
    opening.result()
    port = listener.socket.getsockname()[1]
    assert session.subprotocol == "b"
    assert ("Set-Cookie", "c=1") in session.response_headers
    assert session.response_headers["set-cookie"] == "c=1"
    names: Any = session.response_headers
    assert "SET-COOKIE" in names
    assert session.response_headers.get_all("set-Cookie") == ["c=1"]
    assert session.response_headers.get("X-None") is None
    assert session.response_headers.get("X-None", "none") == "none"
    with pytest.raises(KeyError):
        session.response_headers["X-None"]
    assert session.remote_address == ("127.0.0.1", port)
    assert session.environ == {
        "PATH_INFO": "/a%20b",
        "QUERY_STRING": "c",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "syncws.session_id": session.id,
    }
    drop(session)


# The end


def both_have_closed(session: syncws.ClientSession) -> bool:
    """Whether a session has dealt with the second of the two Close frames."""
    ending = session._ending
    return ending._close_sent and ending._close_received


def test_a_client_waits_for_the_server_to_end_the_connection(listener: Listener) -> None:
    session, peer = listener.connect()
    closing = Background(session.close, 1000, "done")
    assert peer.answer_close() == (1000, "done")
    wait_until(lambda: both_have_closed(session))
    assert is_silent(peer)
    assert not session.close_reason.done()
    faults.end_of_file(peer.socket)
    closing.result()
    assert session.wait_closed(0) == CloseReason(1000, "done", "local")
    assert nothing_is_left_of(session)


def test_a_client_waits_also_when_the_server_closed(listener: Listener) -> None:
    session, peer = listener.connect()
    peer.send_close(1001, "going")
    with pytest.raises(syncws.ConnectionClosedOK):
        session.receive(PATIENCE)
    assert peer.expect_close() == (1001, "going")
    wait_until(lambda: both_have_closed(session))
    assert is_silent(peer)
    assert not session.close_reason.done()
    faults.end_of_file(peer.socket)
    assert session.wait_closed(PATIENCE) == CloseReason(1001, "going", "peer")
    session.close()
    assert nothing_is_left_of(session)


def test_a_server_that_never_ends_the_connection_is_not_waited_for(listener: Listener) -> None:
    session, peer = listener.connect(close_timeout=0.2)
    closing = Background(session.close)
    assert peer.answer_close() == (1000, "")
    closing.result()
    assert session.wait_closed(0) == CloseReason(1000, "", "local")
    peer.expect_end()
    assert nothing_is_left_of(session)


@pytest.mark.parametrize("error", [None, RuntimeError("in the block")])
def test_the_end_of_a_block_closes(listener: Listener, error: Exception | None) -> None:
    session, peer = listener.connect()

    def block() -> None:
        with session as same:
            assert same is session
            if error is not None:
                raise error

    call = Background(block)
    assert peer.answer_close()[0] == (1000 if error is None else 1011)
    peer.close_socket()
    assert call.error() is error
    assert nothing_is_left_of(session)


def ended_by_peer(session: ClientSession, peer: Peer) -> None:
    peer.send_close()
    peer.expect_close()
    peer.close_socket()


def ended_by_reset(session: ClientSession, peer: Peer) -> None:
    faults.reset(peer.socket)


def terminated(session: ClientSession, peer: Peer) -> None:
    session.terminate()


def ended_by_garbage(session: ClientSession, peer: Peer) -> None:
    peer.send_bytes(b"\xff\xff")
    peer.expect_close()
    peer.close_socket()


@pytest.mark.parametrize(
    "end",
    [ended_by_peer, ended_by_reset, terminated, ended_by_garbage],
    ids=lambda end: end.__name__,
)
@pytest.mark.parametrize("receiving", [True, False])
def test_a_session_that_nobody_closes_leaves_nothing_either(
    listener: Listener,
    end: Callable[[ClientSession, Peer], None],
    receiving: bool,
    quick_stand_in: None,
) -> None:
    members = SCHEDULER._members
    session, peer = listener.connect()
    call = Background(session.receive) if receiving else None
    end(session, peer)
    if call is not None:
        closed(call)
    session.close_reason.result(PATIENCE)
    assert session._socket.fileno() == -1
    assert SCHEDULER._members == members


def test_threads_blocked_on_a_session_wake_before_its_socket_is_closed(
    listener: Listener,
) -> None:
    session, _ = listener.connect(close_timeout=0.2)
    receiving = Background(session.receive)
    sending = Background(session.send, BIG)
    session.close()
    assert closed(receiving).cause == "local"
    assert closed(sending).cause == "local"
    assert nothing_is_left_of(session)


def test_many_threads_may_close(listener: Listener) -> None:
    session, peer = listener.connect()
    calls = [Background(session.close) for _ in range(8)]
    assert peer.answer_close() == (1000, "")
    peer.close_socket()
    for call in calls:
        call.result()
    assert session._socket.fileno() == -1


def test_whoever_closes_finds_the_socket_closed(listener: Listener) -> None:
    def close(session: ClientSession) -> bool:
        session.close()
        return nothing_is_left_of(session)

    for _ in range(30):
        session, peer = listener.connect(close_timeout=PATIENCE)
        calls = [Background(close, session) for _ in range(3)]
        peer.answer_close()
        peer.close_socket()
        assert all(call.result() for call in calls)


def test_a_callback_of_a_ping_may_close(listener: Listener) -> None:
    session, peer = listener.connect(close_timeout=PATIENCE)
    closed_by_callback = threading.Event()

    def close(_: object) -> None:
        session.close()
        closed_by_callback.set()

    session.ping().add_done_callback(close)
    peer.close_socket()
    session.close()
    assert closed_by_callback.wait(PATIENCE / 2), "it does not wait for itself"


def test_a_callback_may_close(listener: Listener) -> None:
    session, peer = listener.connect()
    pong = session.ping()
    pong.add_done_callback(lambda _: session.close(timeout=0.1))
    receiving = Background(session.receive)
    event = peer.next_event()
    peer.pong(bytes(event.payload))  # type: ignore[union-attr]  # a ping
    closed(receiving)
    assert session.wait_closed(PATIENCE).cause == "local"


def test_run_closes_as_on_a_server(listener: Listener) -> None:
    session, peer = listener.connect()
    running = Background(session.run, lambda session: session.send("from a handler"))
    assert peer.receive() == "from a handler"
    assert peer.answer_close() == (1000, "")
    peer.close_socket()
    running.result()
    assert nothing_is_left_of(session)


def test_the_outgoing_channel_is_over_as_well(listener: Listener) -> None:
    session, peer = listener.connect()
    written = session.outgoing.send("through the channel")
    assert peer.receive() == "through the channel"
    written.result(PATIENCE)
    closing = Background(session.close)
    peer.answer_close()
    peer.close_socket()
    closing.result()
    assert not any(thread.name.startswith("syncws outgoing") for thread in threading.enumerate())


def test_a_silent_server_is_noticed(listener: Listener) -> None:
    session, peer = listener.connect(ping_interval=0.05, timeout=0.1)
    with pytest.raises(syncws.ConnectionClosedError):
        session.receive(PATIENCE)
    assert session.wait_closed(PATIENCE).cause == "ping_timeout"
    assert peer.expect_ping()


@contextlib.contextmanager
def running(server: WebsocketsServer) -> Iterator[None]:
    serving = Background(server.serve_forever)
    try:
        yield
    finally:
        server.shutdown()
        serving.result()
        # websockets before 17 leaves a pipe open; no later one runs on Python 3.10.
        pipe: tuple[Any, Any] = server.shutdown_watcher, server.shutdown_notifier
        for end in pipe:
            if isinstance(end, int):
                os.close(end)


def test_unix_socket(tmp_path: Path) -> None:
    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    path = tmp_path / "socket"
    with (
        running(unix_serve(echo, str(path))),
        connect("ws://example.com/path", unix_path=path) as session,
    ):
        session.send("hello")
        assert session.receive(PATIENCE) == "hello"
        assert session.remote_address == ("", 0)


# The child of a fork


def in_a_child(function: Callable[[], object]) -> str:
    """Run a function in a forked child. Returns what it returns or raises, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "nothing"
        try:
            text = str(function())
        except BaseException as exc:  # noqa: BLE001 -- told to the parent
            text = str(exc)
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("secure", [False, True])
def test_a_session_in_a_forked_child(secure: bool, certificate: tuple[Path, Path]) -> None:
    """The child gets an error that says what to do. The parent's session goes on, and the child
    can open a session of its own."""
    key, chain = certificate
    ours, theirs = None, None
    if secure:
        ours = ssl.create_default_context(cafile=str(chain))
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(chain, key)
    with syncws.serve(echo, "127.0.0.1", ssl_context=theirs) as server:
        url = f"{'wss' if secure else 'ws'}://localhost:{server.port}/"
        with connect(url, ssl_context=ours) as session:

            def use() -> None:
                try:
                    session.receive()
                finally:
                    session.close()
                    session.terminate()

            def open_another() -> str | bytes:
                with connect(url, ssl_context=ours) as another:
                    another.send("from the child")
                    return another.receive(PATIENCE)

            told = in_a_child(use)
            with network._under_way_lock:  # as if another thread looked up a name just now
                assert in_a_child(open_another) == "from the child"
            session.send("x")
            assert session.receive(PATIENCE) == "x"
    assert "a forked child can not use it, let it open one of its own with connect()" in told


# Other people's servers, and ours


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets_server(compression: Any) -> None:
    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)
        assert connection.request is not None
        seen.append(connection.request.headers["X-Test"])

    seen: list[str] = []
    server = websockets_serve(echo, "127.0.0.1", 0, subprotocols=[Subprotocol("b")])
    with running(server):
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        with connect(
            url, headers={"X-Test": "1"}, subprotocols=["a", "b"], compression=compression
        ) as session:
            assert session.subprotocol == "b"
            extensions = dict(session.response_headers).get("Sec-WebSocket-Extensions")
            assert (extensions is not None) is (compression is not None)
            for message in ("héllo", b"", "x" * 200_000, bytes(range(256)) * 100):
                session.send(message)
                assert session.receive(PATIENCE) == message
            assert session.ping().result(PATIENCE) > 0
        assert session.wait_closed(0) == CloseReason(1000, "", "local")
    wait_until(lambda: seen == ["1"])  # websockets before 17 does not wait for its handlers


def test_our_worker_over_tls(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    context = ssl.create_default_context(cafile=str(cert))
    with gunicorn("tests.support.app:app", f"--keyfile={key}", f"--certfile={cert}") as server:
        url = f"wss://localhost:{server.port}"
        with connect(f"{url}/echo", ssl_context=context) as session:
            for message in ("héllo", b"x" * 300_000):
                session.send(message)
                assert session.receive(PATIENCE) == message
            assert session.ping().result(PATIENCE) > 0
        assert session.wait_closed(0) == CloseReason(1000, "", "local")
        with pytest.raises(HandshakeError) as caught:
            connect(f"{url}/echo?forbidden=1", ssl_context=context)
        assert caught.value.status == 401
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(f"{url}/echo")
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(f"wss://127.0.0.1:{server.port}/echo", ssl_context=context)
        server.stop()
        assert "Traceback" not in server.output


def test_c8_our_server_refuses_what_is_not_masked() -> None:
    def echo(session: syncws.Session) -> None:
        for message in session:
            session.send(message)

    with (
        syncws.serve(echo, "127.0.0.1") as server,
        connect(f"ws://127.0.0.1:{server.port}/", masking=False) as session,
    ):
        session.send("not masked")
        with pytest.raises(syncws.ConnectionClosedError):
            session.receive(PATIENCE)
        assert session.wait_closed(PATIENCE).code == 1002


def test_many_threads_use_one_session() -> None:
    def echo(session: syncws.Session) -> None:
        for message in session:
            session.send(message)

    with (
        syncws.serve(echo, "127.0.0.1") as server,
        connect(f"ws://127.0.0.1:{server.port}/") as session,
    ):
        messages = {f"{sender}-{number}" for sender in range(4) for number in range(100)}

        def send(sender: int) -> None:
            for number in range(100):
                session.send(f"{sender}-{number}")

        senders = [Background(send, sender) for sender in range(4)]
        received = {session.receive(PATIENCE) for _ in messages}
        for sender in senders:
            sender.result()
        assert received == messages
