"""The worker class with HTTP/2, which gunicorn speaks when it is told to.

A connection is shared by its streams: no session may get hold of the socket.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest

from ..support.certificates import make_certificate
from ..support.clients import KEY
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn

WEBSOCKET = [
    ("sec-websocket-key", KEY),
    ("sec-websocket-version", "13"),
    ("origin", "https://localhost"),
]


class Http2Client:
    """One connection, any number of streams."""

    def __init__(self, port: int, certificate: Path) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket = context.wrap_socket(plain, server_hostname="localhost")
        assert self._socket.selected_alpn_protocol() == "h2"
        # The tests send what a client should not.
        config = h2.config.H2Configuration(
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._connection = h2.connection.H2Connection(config)
        self._connection.initiate_connection()
        self._events: list[h2.events.Event] = []
        self._send()

    def _send(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

    def _receive(self) -> bool:
        data = self._socket.recv(65536)
        if data:
            self._events += self._connection.receive_data(data)
            self._send()
        return bool(data)

    def request(self, method: str, path: str, *fields: tuple[str, str], end: bool = True) -> int:
        """Open a stream; gives its number."""
        stream = self._connection.get_next_available_stream_id()
        request = [(":method", method), (":scheme", "https"), (":path", path)]
        request.append((":authority", "localhost"))
        self._connection.send_headers(stream, [*request, *fields], end_stream=end)
        self._send()
        return stream

    def end(self, stream: int) -> None:
        """Send nothing more on a stream."""
        self._connection.end_stream(stream)
        self._send()

    def answer(self, stream: int) -> tuple[str, str]:
        """The status and the body that come on a stream."""
        status = body = b""
        while True:
            for event in [e for e in self._events if getattr(e, "stream_id", 0) == stream]:
                self._events.remove(event)
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[b":status"]
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                else:
                    assert isinstance(event, h2.events.StreamEnded), event
                    return status.decode(), body.decode()
            assert self._receive(), self._events

    def settings(self) -> h2.settings.Settings:
        """What the server has told of itself."""
        while not any(isinstance(e, h2.events.RemoteSettingsChanged) for e in self._events):
            assert self._receive()
        return self._connection.remote_settings

    def expect_goaway(self) -> h2.errors.ErrorCodes | int | None:
        """The error that the whole connection ends with."""
        while self._receive():
            pass
        ends = [e for e in self._events if isinstance(e, h2.events.ConnectionTerminated)]
        return ends[-1].error_code

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("http2"))


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    key, cert = certificate
    with gunicorn(
        "tests.support.app:app", f"--keyfile={key}", f"--certfile={cert}", "--http-protocols=h2,h1"
    ) as server:
        yield server


@pytest.fixture
def client(server: Server, certificate: tuple[Path, Path]) -> Iterator[Http2Client]:
    client = Http2Client(server.port, certificate[1])
    yield client
    client.close()


def test_plain_requests_over_http2(client: Http2Client) -> None:
    streams = [client.request("GET", path) for path in ("/", "/nowhere", "/slow/0.1")]
    answers = [client.answer(stream) for stream in streams]
    assert answers[0] == ("200", "plain HTTP\n")
    assert answers[1][0] == "404"
    assert answers[2] == ("200", "slow\n")


def test_nobody_is_invited_to_open_a_websocket_over_http2(client: Http2Client) -> None:
    """RFC 8441 section 3: browsers look at this, and use HTTP/1.1 then."""
    assert client.settings().enable_connect_protocol == 0


def test_extended_connect_is_refused_and_other_streams_go_on(
    server: Server, client: Http2Client
) -> None:
    """RFC 8441, from a client that has not been invited to."""
    before = client.request("GET", "/slow/0.1")
    connect = client.request("CONNECT", "/echo", (":protocol", "websocket"), *WEBSOCKET, end=False)
    after = client.request("GET", "/")
    client.end(connect)  # gunicorn 26 answers only then
    assert client.answer(before) == ("200", "slow\n")
    status, reason = client.answer(connect)
    assert status == "501"
    assert reason == "WebSockets are opened over HTTP/1.1 here, not over HTTP/2 (RFC 8441).\n"
    assert client.answer(after) == ("200", "plain HTTP\n")
    assert client.answer(client.request("GET", "/")) == ("200", "plain HTTP\n")
    server.wait_for_line("refused '/echo' from 127.0.0.1 with 501: .*over HTTP/1.1")
    assert "Traceback" not in server.output


def test_get_without_an_upgrade_is_refused_and_the_connection_goes_on(client: Http2Client) -> None:
    status, reason = client.answer(client.request("GET", "/echo", *WEBSOCKET))
    assert (status, "WebSocket only" in reason) == ("501", True)
    assert client.answer(client.request("GET", "/")) == ("200", "plain HTTP\n")


def test_upgrade_header_over_http2_opens_nothing(
    server: Server, client: Http2Client, certificate: tuple[Path, Path]
) -> None:
    """HTTP/2 has no such header (RFC 9113 section 8.2.2). The h2 package ends
    the connection for it, before gunicorn or syncws see a request."""
    client.request("GET", "/echo", ("upgrade", "websocket"), *WEBSOCKET)
    assert client.expect_goaway() == h2.errors.ErrorCodes.PROTOCOL_ERROR
    again = Http2Client(server.port, certificate[1])
    assert again.answer(again.request("GET", "/")) == ("200", "plain HTTP\n")
    again.close()
