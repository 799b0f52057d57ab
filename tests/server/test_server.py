"""``serve()``: what it serves, and where."""

from __future__ import annotations

import errno
import functools
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

import syncws
from syncws.upgrade.connectors import CONNECTION_KEY, Connector

from ..support.background import Background
from ..support.certificates import make_certificate
from ..support.clients import connect, handshake
from ..support.pairs import PATIENCE, Peer, frame
from ..support.serving import (
    both,
    echo,
    echo_application,
    end,
    page,
)

# What is served


def test_c16_serve_runs_a_handler_for_many_sessions_at_once() -> None:
    together = threading.Barrier(3)

    def handler(session: syncws.Session) -> None:
        together.wait(PATIENCE)
        echo(session)

    with syncws.serve(handler, "127.0.0.1", 0) as server:
        peers = [connect(server.port, f"/any/{number}") for number in range(3)]
        for number, peer in enumerate(peers):
            peer.send(str(number))
        for number, peer in enumerate(peers):
            assert peer.receive() == str(number)
            end(peer)


def test_c16_serve_runs_a_wsgi_application_http_and_websockets() -> None:
    with syncws.serve(both, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/echo")
        assert requests.get(f"http://127.0.0.1:{server.port}/").text == "page\n"
        peer.send("beside")
        assert peer.receive() == "beside"
        end(peer)


def test_d1_the_server_provides_a_connector() -> None:
    found: list[Any] = []

    def application(environ: Any, start_response: Any) -> Any:
        found.append(environ[CONNECTION_KEY])
        return echo_application(environ, start_response)

    with syncws.serve(application, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/", behind=frame(1, b"early") + frame(1, b"bird"))
        assert [peer.receive(), peer.receive()] == ["early", "bird"]
        end(peer)
    (connector,) = found
    assert isinstance(connector, Connector)


def test_options_are_for_a_handler() -> None:
    with syncws.serve(echo, "127.0.0.1", 0, subprotocols=["v1"], max_message_size=3) as server:
        peer = connect(server.port, "/", "Sec-WebSocket-Protocol: v1")
        peer.send("four")
        assert peer.expect_close()[0] == 1009
        peer.close_socket()
    with pytest.raises(TypeError, match="subprotocols: a WSGI application takes no options"):
        syncws.serve(page, "127.0.0.1", 0, subprotocols=["v1"])
    with pytest.raises(TypeError, match="nonsense"):
        syncws.serve(echo, "127.0.0.1", 0, nonsense=1)  # type: ignore[call-overload]  # that is the test


class Application:
    def __call__(self, environ: Any, start_response: Any) -> Any:
        return page(environ, start_response)


class Handler:
    def __call__(self, session: syncws.Session, room: str = "lobby") -> None:
        session.send(room)


@functools.wraps(Handler.__call__)
def with_the_room(session: syncws.Session) -> None:
    """What a decorator gives that adds an argument: it shows both."""
    session.send("lobby")


@pytest.mark.parametrize(
    "application", [page, Application(), functools.partial(lambda a, e, s: page(e, s), 1)]
)
def test_two_required_parameters_are_an_application(application: Any) -> None:
    with syncws.serve(application, "127.0.0.1", 0) as server:
        assert requests.get(f"http://127.0.0.1:{server.port}/").text == "page\n"


@pytest.mark.parametrize(
    "handler",
    [
        Handler(),
        lambda session, room="lobby": session.send(room),
        functools.partial(Handler(), room="lobby"),
        syncws.websocket(Handler().__call__),
        syncws.exchange(send=["lobby", syncws.CloseReason()], receive=print),
        syncws.stream(lambda messages, *rooms: ["lobby"]),
        with_the_room,
    ],
)
def test_one_required_parameter_is_a_handler(handler: Any) -> None:
    with syncws.serve(handler, "127.0.0.1", 0) as server:
        peer = connect(server.port, "/")
        assert peer.receive() == "lobby"
        assert peer.answer_close() == (1000, "")
        peer.close_socket()


@pytest.mark.parametrize(
    "neither",
    [
        lambda: None,
        lambda *arguments: None,
        lambda scope, receive, send: None,
        lambda session, *, room: None,
        dict,
    ],
)
def test_what_could_be_anything_is_refused(neither: Any) -> None:
    with pytest.raises(TypeError, match=r"wrap a handler in syncws\.websocket\(\)"):
        syncws.serve(neither, "127.0.0.1", 0)


def test_what_can_not_be_called_or_is_async_is_refused() -> None:
    async def handler(session: syncws.Session) -> None: ...

    with pytest.raises(TypeError, match="remove 'async'"):
        syncws.serve(handler, "127.0.0.1", 0)
    with pytest.raises(TypeError, match="a handler is a function"):
        syncws.serve("app", "127.0.0.1", 0)  # type: ignore[call-overload]  # that is the test


# Where


def test_address_in_use() -> None:
    with (
        syncws.serve(page, "127.0.0.1", 0) as server,
        pytest.raises(OSError, match=str(server.port)) as caught,
    ):
        syncws.serve(page, "127.0.0.1", server.port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"host": None}, TypeError, "host is a name"),
        ({"port": 70000}, ValueError, "port is from 0 to 65535"),
        ({"port": -1}, ValueError, "port is from 0 to 65535"),
        ({"host": "unix:"}, ValueError, "followed by the path"),
        ({"host": "unix:/" + "x" * 200}, OSError, "path too long"),
        ({"host": "unix:\0x"}, ValueError, "without null characters"),
        ({"host": "unix:/\udc00\ud800"}, UnicodeEncodeError, "surrogates"),
        ({"ssl_context": "adhoc"}, TypeError, r"an ssl\.SSLContext"),
        ({"ssl_context": ssl.create_default_context()}, ValueError, "a client's"),
        ({"max_connections": None}, ValueError, "max_connections"),
        ({"max_connections": 0}, ValueError, "max_connections"),
    ],
)
def test_arguments_that_can_not_be(
    arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        syncws.serve(echo, **{"host": "127.0.0.1", **arguments})


class BrokenContext(ssl.SSLContext):
    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        raise LookupError("as it was told")


def test_endless_timeouts() -> None:
    server = syncws.serve(echo, "127.0.0.1", 0, close_timeout=1e10)
    peer = connect(server.port, "/")
    stopping = Background(server.shutdown, float("inf"))
    assert peer.answer_close() == (1001, "")
    peer.close_socket()
    stopping.result()


def test_no_connection_ends_the_server(caplog: pytest.LogCaptureFixture) -> None:
    context = BrokenContext(ssl.PROTOCOL_TLS_SERVER)
    with syncws.serve(echo, "127.0.0.1", 0, ssl_context=context) as server:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                assert not sock.recv(1)
    assert caplog.text.count("could not be served") == 2


def test_ipv6() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [f"{environ['REMOTE_ADDR']} {environ['SERVER_NAME']}".encode()]

    with syncws.serve(application, "::1") as server:
        assert requests.get(f"http://[::1]:{server.port}/").text == "::1 ::1"


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    # What a server leaves that was killed.
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with syncws.serve(echo, f"unix:{path}") as server:
        assert server.port == 0
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            sock.sendall(handshake("/") + frame(1, b"hello"))
            received = b""
            while not received.endswith(b"\x81\x05hello"):
                received += sock.recv(4096)
        with pytest.raises(OSError, match="in use"):
            syncws.serve(echo, f"unix:{path}")
    assert not path.exists()
    path.write_text("a file")
    with pytest.raises(OSError, match="in use"):
        syncws.serve(echo, f"unix:{path}")
    assert path.read_text() == "a file"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def contexts(certificate: tuple[Path, Path]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    key, cert = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, ssl.create_default_context(cafile=str(cert))


def test_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], certificate: tuple[Path, Path]
) -> None:
    with syncws.serve(both, "localhost", 0, contexts[0]) as server:
        # One that says nothing, and one that speaks no TLS, hold up nobody.
        silent = socket.create_connection(("127.0.0.1", server.port))
        plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while plain.recv(4096):
            pass
        plain.close()
        sock = contexts[1].wrap_socket(
            socket.create_connection(("127.0.0.1", server.port), PATIENCE),
            server_hostname="localhost",
        )
        sock.sendall(handshake("/echo") + frame(1, b"x" * 100_000))
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        peer = Peer(sock)
        assert peer.receive() == "x" * 100_000
        end(peer)
        answer = requests.get(f"https://localhost:{server.port}/", verify=str(certificate[1]))
        assert answer.text == "page\n"
    silent.close()
