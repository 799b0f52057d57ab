"""connect(): finding the server, and every way in which it does not accept."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import syncws
from syncws import ClientSession, ConnectionClosedError, HandshakeError, connect, serve
from syncws.client import network
from syncws.client.handshake import ClientHandshake, Opened

from ..support import faults
from ..support.background import Background, wait_until
from ..support.listening import Listener, accepting, drop
from ..support.pairs import PATIENCE
from ..support.serving import echo

pytestmark = pytest.mark.usefixtures("quick_stand_in")


def test_all_of_a_request_is_sent(listener: Listener) -> None:
    accepting_one = Background(listener.accept)
    url = listener.url.replace("ws://", "ws://user:p%40ss@")
    with_headers = Background(connect, url, headers={"Origin": "https://example.com"})
    peer, request = accepting_one.result()
    peer.send_bytes(accepting(request))
    drop(with_headers.result())
    headers = dict(request.headers)
    assert headers[b"origin"] == b"https://example.com"
    assert headers[b"authorization"] == b"Basic dXNlcjpwQHNz"


REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 6\r\n\r\n"


def test_refusal(listener: Listener) -> None:
    call = Background(connect, listener.url)
    peer, _ = listener.accept()
    faults.byte_by_byte(peer.socket, REFUSAL + b"go off")
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert (error.status, error.body) == (401, b"go off")
    assert ("WWW-Authenticate", "Basic") in error.headers
    assert "401" in str(error)
    peer.expect_end()


@pytest.mark.parametrize("fault", [None, faults.reset, faults.end_of_file])
def test_refusal_whose_body_does_not_come(
    listener: Listener,
    fault: Callable[[socket.socket], None] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = threading.Event()
    receive_data = ClientHandshake.receive_data

    def note(self: ClientHandshake, data: bytes) -> Opened | None:
        try:
            return receive_data(self, data)
        finally:
            read.set()

    monkeypatch.setattr(ClientHandshake, "receive_data", note)
    call = Background(connect, listener.url, open_timeout=0.5)
    peer, _ = listener.accept()
    peer.send_bytes(REFUSAL + b"go")
    # A reset takes back what nobody has read.
    assert read.wait(PATIENCE)
    if fault is not None:
        fault(peer.socket)
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert (error.status, error.body) == (401, b"go")


def test_a_refusal_can_be_pickled_and_copied() -> None:
    error = HandshakeError(404, [("A", "b")], b"body", "not there")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (same.status, same.headers, same.body) == (404, [("A", "b")], b"body")
        assert str(same) == "not there"


def test_wrong_answer_to_the_key(listener: Listener) -> None:
    call = Background(connect, listener.url)
    peer, request = listener.accept()
    peer.send_bytes(
        accepting(request).replace(b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x")
    )
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert (error.status, error.body) == (101, b"")
    peer.expect_end()


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"HTTP/1.1 101 \r\nX: " + b"x" * 200_000]
)
def test_garbage_and_endless_heads(listener: Listener, garbage: bytes) -> None:
    call = Background(connect, listener.url)
    peer, _ = listener.accept()
    with contextlib.suppress(ConnectionError):  # the client has had enough
        peer.send_bytes(garbage)
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert error.status is None


def test_a_server_of_another_kind_need_not_end_the_connection(listener: Listener) -> None:
    call = Background(connect, listener.url)
    peer, _ = listener.accept()
    peer.send_bytes(b"SSH-2.0-OpenSSH")
    assert str(call.error()) == "the server does not speak HTTP, it sent b'SSH-2.0-OpenSSH'"


def test_end_of_file_instead_of_an_answer(listener: Listener) -> None:
    call = Background(connect, listener.url)
    peer, _ = listener.accept()
    faults.end_of_file(peer.socket)
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert error.status is None


def test_reset_instead_of_an_answer(listener: Listener) -> None:
    call = Background(connect, listener.url)
    peer, _ = listener.accept()
    faults.reset(peer.socket)
    assert isinstance(call.error(), ConnectionResetError)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Swit", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_stalled_answer(listener: Listener, said: bytes) -> None:
    call = Background(connect, listener.url, open_timeout=0.3)
    peer, _ = listener.accept()
    peer.send_bytes(said)
    error = call.error()
    assert type(error) is TimeoutError
    assert "within 0.3 s" in str(error)
    peer.expect_end()


def test_an_answer_byte_by_byte_does_not_move_the_deadline(listener: Listener) -> None:
    call = Background(connect, listener.url, open_timeout=0.3)
    peer, _ = listener.accept()
    over = threading.Event()

    def trickle() -> None:
        try:
            peer.send_bytes(b"HTTP/1.1 101 Switching\r\nX: ")
            while not over.wait(0.01):
                peer.send_bytes(b"x")
        except OSError:
            pass

    trickling = Background(trickle)
    assert type(call.error()) is TimeoutError
    over.set()
    trickling.result()


def test_a_server_that_never_comes_to_its_answer(listener: Listener) -> None:
    call = Background(connect, listener.url, open_timeout=0.3)
    peer, _ = listener.accept()
    with contextlib.suppress(ConnectionError):  # the client has had enough
        while True:
            peer.send_bytes(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
    assert isinstance(call.error(), TimeoutError)


def test_stalled_tls_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"wss://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(TimeoutError, match=r"within 0\.3 s"):
            connect(url, open_timeout=0.3)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect(f"ws://127.0.0.1:{port}/")


def test_no_such_host() -> None:
    with pytest.raises(socket.gaierror):
        connect("ws://no-such-host.invalid/")


@pytest.mark.parametrize("url", [None, b"ws://127.0.0.1/", 8000])
def test_a_url_is_text(url: Any) -> None:
    with pytest.raises(TypeError, match="the URL is a str, such as"):
        connect(url)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"origins": "*"}, TypeError, "no option 'origins'"),
        ({"on_handshake_failure": 404}, TypeError, "it is for servers"),
        ({"raw": True}, TypeError, "no option 'raw'"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
        ({"subprotocols": "chat"}, TypeError, r"use \['chat'\]"),
        ({"headers": {"Host": "x"}}, ValueError, "'Host'"),
        ({"ssl_context": ssl.create_default_context()}, ValueError, "begins with ws://"),
        ({"max_message_size": 0}, ValueError, "max_message_size"),
        ({"headers": 1}, TypeError, "headers are pairs"),
        ({"headers": {"X": None}}, TypeError, "both of them str"),
        ({"open_timeout": None}, TypeError, "open_timeout is a number of seconds"),
        ({"open_timeout": math.nan}, ValueError, "open_timeout is a number of seconds"),
        ({"open_timeout": 0}, ValueError, "open_timeout must be greater than 0"),
        ({"open_timeout": -1.0}, ValueError, "open_timeout must be greater than 0"),
        ({"subprotocols": lambda offered: None}, TypeError, "subprotocols is a list"),
        ({"server_hostname": "x"}, ValueError, "begins with ws://"),
        ({"redirects": -1}, ValueError, "redirects must not be negative"),
        ({"redirects": 1.5}, TypeError, "redirects is a number"),
        ({"local_address": "127.0.0.1"}, TypeError, "local_address is a host and a port"),
        ({"proxy": 1}, TypeError, "proxy is"),
        ({"proxy": "https://proxy/"}, ValueError, "URL of the proxy begins with"),
        ({"proxy": "http://proxy:x/"}, ValueError, "URL of the proxy is not valid"),
        ({"proxy": "http://"}, ValueError, "URL of the proxy has no host"),
        ({"proxy": "http://p/", "unix_path": "/x"}, ValueError, "can not go through a proxy"),
        ({"local_address": ("", 0), "unix_path": "/x"}, ValueError, "connections over TCP"),
        ({"user_agent": "a\nb"}, ValueError, "characters HTTP forbids"),
    ],
)
def test_arguments_that_can_not_be(
    listener: Listener, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        connect(listener.url, **arguments)


@pytest.mark.parametrize("open_timeout", [1e12, math.inf, 10**400])
def test_any_time_to_open(listener: Listener, open_timeout: float) -> None:
    session, _ = listener.connect(open_timeout=open_timeout)
    drop(session)


@pytest.mark.parametrize("open_timeout", [1e12, math.inf])
def test_any_time_to_open_over_tls(certificate: tuple[Path, Path], open_timeout: float) -> None:
    key, chain = certificate
    on_the_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    on_the_server.load_cert_chain(chain, key)
    trusting = ssl.create_default_context(cafile=str(chain))
    with serve(echo, "127.0.0.1", ssl_context=on_the_server) as server:
        url = f"wss://127.0.0.1:{server.port}/"
        options: Any = {"ssl_context": trusting, "server_hostname": "localhost"}
        with connect(url, open_timeout=open_timeout, **options) as session:
            session.send("x")
            assert session.receive(PATIENCE) == "x"


def test_none_for_no_headers_and_no_subprotocols(listener: Listener) -> None:
    session, _ = listener.connect(headers=None, subprotocols=None)
    drop(session)


def test_what_the_server_said_right_before_a_reset(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 101, a Close and a reset are there before the client looks at any of them."""
    has_read, is_reset = threading.Event(), threading.Event()
    receive_data = ClientHandshake.receive_data

    def wait(self: ClientHandshake, data: bytes) -> Opened | None:
        has_read.set()
        assert is_reset.wait(PATIENCE)
        return receive_data(self, data)

    monkeypatch.setattr(ClientHandshake, "receive_data", wait)
    call = Background(connect, listener.url)
    peer, request = listener.accept()
    peer.send_bytes(accepting(request) + b"\x81\x02hi" + b"\x88\x02\x03\xf4")
    assert has_read.wait(PATIENCE)
    faults.reset(peer.socket)
    is_reset.set()
    session = call.result()
    assert session.remote_address == listener.socket.getsockname()
    assert session.receive(PATIENCE) == "hi"
    assert session.wait_closed(PATIENCE).code == 1012
    session.close()


def test_a_reset_is_not_the_handlers_fault(listener: Listener) -> None:
    session, peer = listener.connect()
    faults.reset(peer.socket)
    with pytest.raises(ConnectionClosedError, match=r"^the connection failed"):
        session.receive(PATIENCE)
    assert "handler" not in str(session.wait_closed(PATIENCE))
    session.close()


def test_no_thread_for_the_session(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ClientSession) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ClientSession, "_prepare", refuse)
    opening = Background(listener.open)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        connect(listener.url)
    opening.result().expect_end()


# Where servers are


def test_the_look_up_of_a_name_has_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    calls = []
    getaddrinfo = socket.getaddrinfo

    def slow(host: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):  # is it an address?
            return getaddrinfo(host, *args, **kwargs)
        calls.append(host)
        assert answered.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    # The second call waits for the same look-up: a resolver that hangs costs one thread.
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
            connect("ws://slow.example/", open_timeout=0.1)
    assert calls == ["slow.example"]
    answered.set()
    wait_until(lambda: not network._under_way)


def test_a_socket_that_is_connected_already(listener: Listener) -> None:
    opening = Background(listener.open)
    sock = socket.create_connection(listener.socket.getsockname())
    session = connect("ws://example.com/", sock=sock)
    assert session.remote_address == listener.socket.getsockname()
    opening.result()
    drop(session)
    assert sock.fileno() == -1


def test_a_socket_is_closed_if_there_is_no_session(listener: Listener) -> None:
    sock = socket.create_connection(listener.socket.getsockname())
    call = Background(connect, "ws://example.com/", sock=sock)
    peer, _ = listener.accept()
    peer.send_bytes(REFUSAL + b"go off")
    assert isinstance(call.error(), HandshakeError)
    assert sock.fileno() == -1


def test_a_local_address(listener: Listener) -> None:
    session, peer = listener.connect(local_address=("127.0.0.2", 0))
    assert peer.socket.getpeername()[0] == "127.0.0.2"
    drop(session)


@pytest.mark.parametrize(
    ("arguments", "agent"),
    [
        ({}, f"syncws/{syncws.__version__}"),
        ({"user_agent": "mine"}, "mine"),
        ({"user_agent": None}, None),
        ({"headers": {"user-agent": "yours"}}, "yours"),
    ],
)
def test_the_user_agent(listener: Listener, arguments: dict[str, Any], agent: str | None) -> None:
    call = Background(connect, listener.url, **arguments)
    peer, request = listener.accept()
    peer.send_bytes(accepting(request))
    agents = [value.decode() for name, value in request.headers if name == b"user-agent"]
    assert agents == ([] if agent is None else [agent])
    drop(call.result())


def test_ipv6() -> None:
    listening = Listener(socket.create_server(("::1", 0), family=socket.AF_INET6))
    session, peer = listening.connect()
    assert session.remote_address == listening.socket.getsockname()[:2]
    session.send("x")
    assert peer.receive() == "x"
    drop(session)
    listening.close()


def test_the_next_address_of_a_host_is_tried(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        refusing = unused.getsockname()
    good = listener.socket.getsockname()
    tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(*tcp, refusing), (*tcp, refusing), (*tcp, good)]
    )
    opening = Background(listener.open)
    session = connect("ws://several.example/")
    assert session.remote_address == good
    opening.result()
    drop(session)


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = listener.socket.getsockname()
    tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than wait to be accepted: the system drops others
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        addresses = [(*tcp, full.getsockname()), (*tcp, good)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        opening = Background(listener.open)
        session = connect("ws://several.example/", open_timeout=1)
    assert session.remote_address == good
    opening.result()
    drop(session)
