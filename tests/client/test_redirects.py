"""connect() follows redirects, and takes no credentials to another server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import h11
import pytest

import syncws
from syncws import HandshakeError, connect
from syncws.client.redirects import redirected
from syncws.client.url import parse_url

from ..support.background import Background
from ..support.listening import Listener, accepting, drop


@pytest.fixture
def elsewhere() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


def redirect(listener: Listener, location: str, status: int = 302) -> h11.Request:
    peer, request = listener.accept()
    peer.send_bytes(
        f"HTTP/1.1 {status} There\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    peer.expect_end()
    return request


def fields(request: h11.Request) -> dict[bytes, bytes]:
    return dict(request.headers)


CREDENTIALS = {"Cookie": "secret", "X-Api-Key": "secret", "Origin": "https://example.com"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_f8_a_redirect_on_the_same_server(listener: Listener, status: int) -> None:
    url = listener.url.replace("ws://", "ws://user:pass@")
    call = Background(connect, f"{url}a/b?c", headers=CREDENTIALS)
    first = redirect(listener, "../d?e#f", status)
    peer, second = listener.accept()
    peer.send_bytes(accepting(second))
    assert (first.target, second.target) == (b"/a/b?c", b"/d?e")
    assert fields(second)[b"cookie"] == b"secret"
    assert fields(second)[b"authorization"] == fields(first)[b"authorization"]
    session: syncws.ClientSession = call.result()
    assert session.environ["PATH_INFO"] == "/d"
    drop(session)


def test_f8_no_credentials_go_to_another_server(listener: Listener, elsewhere: Listener) -> None:
    url = listener.url.replace("ws://", "ws://user:pass@")
    call = Background(connect, url, headers=CREDENTIALS)
    redirect(listener, elsewhere.url.replace("ws://", "http://"))
    peer, request = elsewhere.accept()
    peer.send_bytes(accepting(request))
    assert b"secret" not in b"".join(fields(request).values())
    assert b"authorization" not in fields(request)
    assert fields(request)[b"origin"] == b"https://example.com"
    drop(call.result())


def test_credentials_do_not_come_back(listener: Listener, elsewhere: Listener) -> None:
    """What was left behind stays there when a redirect leads back."""
    call = Background(connect, listener.url, headers=CREDENTIALS)
    redirect(listener, elsewhere.url)
    redirect(elsewhere, listener.url)
    peer, request = listener.accept()
    peer.send_bytes(accepting(request))
    assert b"cookie" not in fields(request)
    drop(call.result())


def test_redirects_are_counted(listener: Listener) -> None:
    call = Background(connect, listener.url, redirects=2)
    for _ in range(3):
        redirect(listener, "/again")
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert error.status == 302
    assert "it redirects to '/again'" in str(error)


def test_redirects_share_the_deadline(listener: Listener) -> None:
    """However many there are, and however quickly each of them comes."""
    over = threading.Event()

    def serve() -> None:
        while True:
            # These are raised if the time was over in the middle of a request.
            with contextlib.suppress(EOFError, OSError):
                redirect(listener, "/again")
            if over.is_set():
                return

    serving = Background(serve)
    call = Background(connect, listener.url, open_timeout=0.3, redirects=1_000_000)
    error = call.error()
    over.set()
    with contextlib.suppress(OSError):
        socket.create_connection(listener.socket.getsockname()).close()
    serving.result()
    assert type(error) is TimeoutError


@pytest.mark.parametrize(
    ("url", "location", "why"),
    [
        ("wss://a/", "ws://a/", "without TLS"),
        ("wss://a/", "http://a/", "without TLS"),
        ("ws://a/", "ftp://a/", "begins with ws://"),
        ("ws://a/", "ws://a:x/", "no valid host and port"),
        ("ws://a/", "//b c/", "no valid host"),
    ],
)
def test_redirects_that_are_not_followed(url: str, location: str, why: str) -> None:
    refusal = HandshakeError(302, [("location", location)], b"", "redirected")
    with pytest.raises(HandshakeError, match=why) as caught:
        redirected(parse_url(url), refusal)
    assert caught.value.status == 302


@pytest.mark.parametrize("location", ["ws://eve:x@a/b", "ws://eve:x@elsewhere/"])
def test_a_password_of_the_servers_is_left_out(location: str) -> None:
    refusal = HandshakeError(302, [("Location", location)], b"", "redirected")
    target = redirected(parse_url("ws://a/"), refusal)
    assert target is not None
    assert target.authorization is None


def test_an_upgrade_to_tls_keeps_the_password() -> None:
    refusal = HandshakeError(301, [("Location", "https://a/b")], b"", "redirected")
    target = redirected(parse_url("ws://user:pass@a/"), refusal)
    assert target is not None
    assert target.secure
    assert target.authorization is not None


def test_a_socket_of_the_users_is_not_replaced(listener: Listener) -> None:
    sock = socket.create_connection(listener.socket.getsockname())
    call = Background(connect, listener.url, sock=sock)
    redirect(listener, "/again")
    error = call.error()
    assert isinstance(error, HandshakeError)
    assert error.status == 302
