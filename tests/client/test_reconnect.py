"""reconnect(): what is waited out, what is raised, for how long, and how it ends."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import syncws
from syncws import Backoff, ClientSession, ConnectionClosed, HandshakeError, connect, reconnect
from syncws.client import network
from syncws.client import reconnect as module
from syncws.client.opening import open_session

from ..support import faults
from ..support.background import Background, wait_until
from ..support.listening import Listener, drop
from ..support.pairs import PATIENCE
from ..support.serving import echo

QUICK = Backoff(first=0.001, most=0.002)


class Waits:
    """What ``on_wait`` is told, without waiting for it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[Exception] = []

    def __call__(self, seconds: float, failure: Exception) -> None:
        self.seconds.append(seconds)
        self.failures.append(failure)


def sessions(url: str, number: int, **options: Any) -> list[ClientSession]:
    """Open sessions until there have been so many; each reads to its end."""
    options.setdefault("backoff", QUICK)
    found = []
    for session in reconnect(url, **options):
        found.append(session)
        if len(found) == number:
            session.terminate()
            session.close()
            break
        with session:
            session.receive(PATIENCE)
    return found


def close_and_open_again(listener: Listener, code: int) -> None:
    peer = listener.open()
    peer.send_close(code)
    assert peer.expect_close()[0] == code
    peer.close_socket()
    listener.open()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4000, 4408, 4429])
def test_f7_after_each_end_of_a_session_comes_the_next(listener: Listener, code: int) -> None:
    serving = Background(close_and_open_again, listener, code)
    waits = Waits()
    first, second = sessions(listener.url, 2, on_wait=waits)
    serving.result()
    assert first is not second
    (failure,) = waits.failures
    assert isinstance(failure, ConnectionClosed)
    assert failure.reason.code == code
    assert first.wait_closed(0).code == code


def test_a_reset_is_waited_out(listener: Listener) -> None:
    def serve() -> None:
        faults.reset(listener.open().socket)
        listener.open()

    serving = Background(serve)
    first, _ = sessions(listener.url, 2)
    serving.result()
    assert first.wait_closed(0).code == 1006


@pytest.mark.parametrize("code", [1008, 1010, 3000, 3003, 4401, 4404])
def test_f7_ends_that_come_again_are_raised(listener: Listener, code: int) -> None:
    serving = Background(close_and_open_again, listener, code)
    with pytest.raises(syncws.ConnectionClosedError) as caught:
        sessions(listener.url, 2)
    assert caught.value.reason.code == code
    drop(connect(listener.url))
    serving.result()


def refuse(listener: Listener, head: str) -> None:
    peer, _ = listener.accept()
    peer.send_bytes(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode())
    peer.expect_end()
    peer.close_socket()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_f7_failures_that_pass_are_waited_out(listener: Listener, status: int) -> None:
    def serve() -> None:
        refuse(listener, f"{status} No")
        peer, _ = listener.accept()
        faults.reset(peer.socket)
        peer, _ = listener.accept()
        faults.end_of_file(peer.socket)
        listener.open()

    serving = Background(serve)
    waits = Waits()
    sessions(listener.url, 1, on_wait=waits)
    serving.result()
    assert [type(failure) for failure in waits.failures] == [
        HandshakeError,
        ConnectionResetError,
        HandshakeError,
    ]


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404])
def test_f7_failures_that_do_not_pass_are_raised(listener: Listener, status: int) -> None:
    serving = Background(refuse, listener, f"{status} No")
    with pytest.raises(HandshakeError) as caught:
        sessions(listener.url, 1)
    assert caught.value.status == status
    serving.result()


def test_no_address_and_nobody_listens_are_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = [
        socket.gaierror("no address"),
        ConnectionRefusedError(),
        TimeoutError(),
        ssl.SSLEOFError("the handshake broke off"),
    ]
    expected = list(failures)

    def fail(*_: Any, **__: Any) -> Any:
        raise failures.pop(0) if failures else PermissionError("not you")

    monkeypatch.setattr(module, "open_session", fail)
    waits = Waits()
    with pytest.raises(PermissionError):
        sessions("ws://a/", 1, on_wait=waits)
    assert waits.failures == expected


def test_a_certificate_that_is_not_trusted_is_raised(certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    on_the_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    on_the_server.load_cert_chain(chain, key)
    with (
        syncws.serve(echo, "127.0.0.1", ssl_context=on_the_server) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        sessions(f"wss://localhost:{server.port}/", 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"backoff": 1}, TypeError),
        ({"on_wait": 1}, TypeError),
        ({"sock": socket.socket}, ValueError),
        ({"no_such": 1}, TypeError),
        ({"timeout": -1}, ValueError),
    ],
)
def test_bad_arguments_are_raised(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        sessions("ws://127.0.0.1:1/", 1, **arguments)


@pytest.mark.parametrize(
    ("first", "most"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1), (1, float("inf"))]
)
def test_backoffs_that_can_not_be(first: float, most: float) -> None:
    with pytest.raises(ValueError, match=r"first|most"):
        Backoff(first, most)


def test_the_waits_grow_to_their_bound() -> None:
    backoff = Backoff(first=1, most=10)
    assert [backoff.limit(n) for n in [0, 1, 2, 3, 4, 10_000]] == [1, 2, 4, 8, 10, 10]


def test_clients_do_not_come_back_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred clients after a restart are spread over the whole of the first wait."""

    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(module, "open_session", fail)
    first_waits = []
    for _ in range(100):

        def note(seconds: float, failure: Exception) -> None:
            first_waits.append(seconds)
            connecting.close()  # noqa: B023 -- called before the next round

        connecting = reconnect("ws://a/", backoff=Backoff(first=1), on_wait=note)
        assert list(connecting) == []
    assert len(first_waits) == 100
    tenths = {int(seconds * 10) for seconds in first_waits}
    assert len(tenths) >= 8


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        ("9" * 400, 3600, 3600),
    ],
)
def test_retry_after(value: str, least: float, most: float) -> None:
    refusal = HandshakeError(503, [("retry-after", value)], b"", "busy")
    assert least <= module._retry_after(refusal) <= most


def test_retry_after_a_date() -> None:
    for ahead, least, most in [(100, 90, 100), (-100, 0, 0)]:
        date = email.utils.formatdate(time.time() + ahead, usegmt=True)
        refusal = HandshakeError(503, [("Retry-After", date)], b"", "busy")
        assert least <= module._retry_after(refusal) <= most


def test_retry_after_is_waited_for(listener: Listener) -> None:
    waits = Waits()
    connecting = reconnect(listener.url, backoff=QUICK, on_wait=waits)
    serving = Background(refuse, listener, "503 Busy\r\nRetry-After: 1000")
    waiting = Background(next, connecting, None)
    serving.result()
    wait_until(lambda: waits.seconds)
    connecting.close()
    assert waiting.result() is None
    assert 1000 <= waits.seconds[0] <= 1001


def test_headers_are_asked_for_each_time(listener: Listener) -> None:
    tokens: list[bytes] = []

    def fresh_token() -> dict[str, str]:
        return {"X-Token": str(len(tokens))}

    def serve() -> None:
        for _ in range(3):
            peer, request = listener.accept()
            tokens.append(dict(request.headers)[b"x-token"])
            peer.send_bytes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        listener.open()

    serving = Background(serve)
    sessions(listener.url, 1, headers=fresh_token)
    serving.result()
    assert tokens == [b"0", b"1", b"2"]


def test_fail_first() -> None:
    with pytest.raises(ConnectionRefusedError):
        sessions("ws://127.0.0.1:1/", 1, fail_first=True)


def test_fail_first_is_about_the_first_session_only(listener: Listener) -> None:
    def serve() -> None:
        listener.open().close_socket()
        refuse(listener, "503 No")
        listener.open()

    serving = Background(serve)
    assert len(sessions(listener.url, 2, fail_first=True)) == 2
    serving.result()


def test_other_exceptions_leave_the_loop(listener: Listener) -> None:
    def serve() -> int:
        peer = listener.open()
        code: int = peer.expect_close()[0]
        peer.send_close(code)
        peer.close_socket()
        return code

    def loop() -> None:
        for session in reconnect(listener.url):
            with session:
                raise KeyError

    serving = Background(serve)
    with pytest.raises(KeyError):
        loop()
    assert serving.result() == 1011


def test_the_end_of_another_session_leaves_the_loop(listener: Listener) -> None:
    other, _ = listener.connect()
    other.terminate()
    other.close()
    opening = Background(listener.open)

    def loop() -> None:
        for session in reconnect(listener.url, close_timeout=0.1):
            with session:
                other.receive(0)

    with pytest.raises(ConnectionClosed) as caught:
        loop()
    assert caught.value.session is other
    opening.result()


def test_another_thread_ends_the_wait() -> None:
    waits = Waits()
    connecting = reconnect(
        "ws://127.0.0.1:1/", backoff=Backoff(first=1000, most=1000), on_wait=waits
    )
    waiting = Background(list, connecting)
    wait_until(lambda: waits.seconds)
    connecting.close()
    connecting.close()
    assert waiting.result() == []


def test_another_thread_ends_an_open_session(listener: Listener) -> None:
    opened = threading.Event()

    def loop(connecting: Any) -> int:
        number = 0
        for session in connecting:
            with session:
                number += 1
                opened.set()
                session.receive()
        return number

    connecting = reconnect(listener.url, close_timeout=0.1)
    running = Background(loop, connecting)
    listener.open()
    assert opened.wait(PATIENCE)
    connecting.close()
    assert running.result() == 1


def test_close_while_a_session_is_being_opened(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Background(listener.open)
    connecting = reconnect(listener.url, close_timeout=0.1)

    def open_and_close(*args: Any, **kwargs: Any) -> Any:
        session = open_session(*args, **kwargs)
        connecting.close()
        return session

    monkeypatch.setattr(module, "open_session", open_and_close)
    assert list(connecting) == []
    opening.result().expect_close()


# What an attempt waits for when another thread ends it

FOR_EVER: dict[str, Any] = {"open_timeout": 1000, "proxy": None}


def ends_at_once(connecting: Any, begun: Callable[[], object]) -> None:
    """close() ends an attempt that has come as far as ``begun`` says."""
    waiting = Background(list, connecting)
    wait_until(begun)
    connecting.close()
    assert waiting.result() == []


def test_close_ends_the_look_up_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answered = threading.Event(), threading.Event()
    getaddrinfo = socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("flags"):  # is it an address?
            return getaddrinfo(*args, **kwargs)
        begun.set()
        assert answered.wait(PATIENCE)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    ends_at_once(reconnect("ws://slow.example/", **FOR_EVER), begun.is_set)
    answered.set()
    wait_until(lambda: not network._under_way)


def test_close_ends_the_connecting() -> None:
    """The queue of a listener that accepts nothing is full, so the server does not answer."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        connecting = reconnect(f"ws://127.0.0.1:{full.getsockname()[1]}/", **FOR_EVER)
        ends_at_once(connecting, lambda: connecting._attempt and connecting._attempt._socket)


@pytest.mark.parametrize(
    "kind", ["ws", "wss", "a redirect", "a proxy", "a SOCKS proxy", "a Unix socket"]
)
def test_close_ends_the_wait_for_an_answer(kind: str, tmp_path: Path) -> None:
    """A server, or a proxy, takes the request and says nothing."""
    options = dict(FOR_EVER)
    if kind == "a Unix socket":
        silent = socket.socket(socket.AF_UNIX)
        options["unix_path"] = str(tmp_path / "socket")
        silent.bind(options["unix_path"])
        silent.listen()
        url = "ws://localhost/"
    else:
        silent = socket.create_server(("127.0.0.1", 0))
        url = f"{'wss' if kind == 'wss' else 'ws'}://127.0.0.1:{silent.getsockname()[1]}/"
    if "proxy" in kind:
        scheme = "http" if kind == "a proxy" else "socks5h"
        options["proxy"] = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        url = "ws://server.invalid/"
    silent.settimeout(PATIENCE)
    requests: list[bytes] = []
    with silent, contextlib.ExitStack() as stack:

        def accept() -> None:
            sock = stack.enter_context(silent.accept()[0])
            sock.settimeout(PATIENCE)
            requests.append(sock.recv(65536))
            if kind == "a redirect" and len(requests) == 1:
                sock.sendall(b"HTTP/1.1 302 No\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n")
                accept()

        serving = Background(accept)
        wanted = 2 if kind == "a redirect" else 1
        ends_at_once(reconnect(url, **options), lambda: len(requests) == wanted)
        serving.result()


def test_close_before_the_first_attempt_begins(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function of the headers is the last thing that the user sees before an attempt."""

    def headers() -> dict[str, str]:
        connecting.close()
        return {}

    connecting = reconnect(listener.url, headers=headers)
    assert list(connecting) == []


def test_close_may_come_in_a_signal_handler() -> None:
    """It interrupts the thread wherever that is, also where it holds a lock."""
    connecting = reconnect("ws://127.0.0.1:1/")
    attempt = connecting._begin(PATIENCE)
    with connecting._lock, attempt._lock:
        connecting.close()
    assert attempt.passed
    assert list(connecting) == []


def test_a_wait_may_be_as_long_as_you_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than Python's locks can wait."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
    waiting = threading.Event()
    connecting = reconnect(
        "ws://127.0.0.1:1/",
        backoff=Backoff(first=1e300, most=1e300),
        on_wait=lambda *_: waiting.set(),
    )
    following = Background(list, connecting)
    assert waiting.wait(PATIENCE)
    connecting.close()
    assert following.result() == []


# Real servers


def test_f7_a_server_that_restarts() -> None:
    """SIGTERM's 1001, nobody listens for a while, and the server is back."""
    with syncws.serve(echo, "127.0.0.1") as server:
        port = server.port
        connecting = reconnect(f"ws://127.0.0.1:{port}/", backoff=Backoff(0.01, 0.05))
        session = next(connecting)
        session.send("one")
        assert session.receive(PATIENCE) == "one"
    assert session.wait_closed(PATIENCE).code == 1001
    following = Background(next, connecting)
    with syncws.serve(echo, "127.0.0.1", port):
        session = following.result()
        session.send("two")
        assert session.receive(PATIENCE) == "two"
        connecting.close()
    assert list(connecting) == []
