"""connect() through proxies: which one, HTTP CONNECT, SOCKS, and their refusals."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import syncws
from syncws import HandshakeError, connect, reconnect
from syncws.client.proxy import parse_proxy, proxy_from_environment
from syncws.client.url import parse_url

from ..support.background import Background, wait_until
from ..support.pairs import PATIENCE
from ..support.serving import echo


@pytest.fixture
def server() -> Iterator[syncws.Server]:
    with syncws.serve(echo, "127.0.0.1") as running:
        yield running


def says_x(session: syncws.ClientSession) -> bool:
    with session:
        session.send("x")
        return session.receive(PATIENCE) == "x"


class ScriptedProxy:
    """A proxy that does what a test tells it, for one connection."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.port = self.socket.getsockname()[1]

    def accept(self) -> socket.socket:
        sock, _ = self.socket.accept()
        sock.settimeout(PATIENCE)
        return sock


@pytest.fixture
def scripted() -> Iterator[ScriptedProxy]:
    proxy = ScriptedProxy()
    yield proxy
    proxy.socket.close()


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        assert part, "the client closed the connection"
        data += part
    return data


def read_head(sock: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(4096)
    return data.decode()


def relay(one: socket.socket, other: socket.socket) -> None:
    """Both directions, until both have ended."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(other, one))
    back.start()
    copy(one, other)
    back.join()
    one.close()
    other.close()


# HTTP CONNECT


def test_f8_through_an_http_proxy(scripted: ScriptedProxy, server: syncws.Server) -> None:
    heads = []

    def proxy() -> None:
        ours = scripted.accept()
        heads.append(read_head(ours))
        ours.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        relay(ours, socket.create_connection(("127.0.0.1", server.port)))

    running = Background(proxy)
    session = connect(
        "ws://no-such-host.invalid:81/", proxy=f"http://us%40er:pass@127.0.0.1:{scripted.port}"
    )
    assert session.remote_address == ("127.0.0.1", scripted.port)
    assert says_x(session)
    running.result()
    credentials = base64.b64encode(b"us@er:pass").decode()
    assert heads[0].startswith("CONNECT no-such-host.invalid:81 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {credentials}\r\n" in heads[0]
    assert f"User-Agent: syncws/{syncws.__version__}\r\n" in heads[0]


@pytest.mark.parametrize("status", [302, 407, 502])
def test_an_http_proxy_that_refuses(scripted: ScriptedProxy, status: int) -> None:
    url = f"http://user:secret@127.0.0.1:{scripted.port}"
    call = Background(connect, "ws://server.invalid/", proxy=url)
    with scripted.accept() as ours:
        read_head(ours)
        ours.sendall(f"HTTP/1.1 {status} No\r\nLocation: ws://evil.invalid/\r\n\r\n".encode())
        error = call.error()
    assert isinstance(error, HandshakeError)
    assert error.status == status
    assert "secret" not in str(error)
    assert ("into its URL" in str(error)) == (status == 407)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nearly"])
def test_a_proxy_that_breaks_http(scripted: ScriptedProxy, answer: bytes) -> None:
    call = Background(connect, "ws://server.invalid/", proxy=f"127.0.0.1:{scripted.port}")
    with scripted.accept() as ours:
        read_head(ours)
        ours.sendall(answer)
    assert isinstance(call.error(), ConnectionError)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_a_proxy_that_stalls(scripted: ScriptedProxy, scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{scripted.port}"
    call = Background(connect, "ws://server.invalid/", proxy=url, open_timeout=0.3)
    with scripted.accept():
        assert type(call.error()) is TimeoutError


# SOCKS


def socks5(scripted: ScriptedProxy, server: syncws.Server, reply: int = 0) -> tuple[str, str]:
    """Serve one connection (RFC 1928, 1929); gives the credentials and the host asked for."""
    ours = scripted.accept()
    _, count = read_exactly(ours, 2)
    credentials = ""
    if 2 in read_exactly(ours, count):
        ours.sendall(b"\x05\x02")
        _, length = read_exactly(ours, 2)
        credentials = read_exactly(ours, length).decode()
        credentials += ":" + read_exactly(ours, read_exactly(ours, 1)[0]).decode()
        ours.sendall(b"\x01" + (b"\x00" if credentials == "user:pass" else b"\x01"))
        if credentials != "user:pass":
            ours.close()
            return credentials, ""
    else:
        ours.sendall(b"\x05\x00")
    kind = read_exactly(ours, 4)[3]
    if kind == 3:
        host = read_exactly(ours, read_exactly(ours, 1)[0]).decode()
    else:
        host = socket.inet_ntoa(read_exactly(ours, 4))
    read_exactly(ours, 2)
    ours.sendall(bytes([5, reply, 0, 1, 127, 0, 0, 1, 0, 80]))
    if reply:
        ours.close()
    else:
        relay(ours, socket.create_connection(("127.0.0.1", server.port)))
    return credentials, host


@pytest.mark.parametrize(
    ("scheme", "host", "asked"),
    [("socks5h", "server.invalid", "server.invalid"), ("socks5", "localhost", "127.0.0.1")],
)
def test_f8_through_a_socks_proxy(
    scripted: ScriptedProxy,
    server: syncws.Server,
    scheme: str,
    host: str,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    if scheme == "socks5":
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, port, *_, **__: [(*tcp, ("127.0.0.1", port))]
        )
    running = Background(socks5, scripted, server)
    url = f"{scheme}://user:pass@127.0.0.1:{scripted.port}"
    assert says_x(connect(f"ws://{host}/", proxy=url))
    assert running.result() == ("user:pass", asked)


@pytest.mark.parametrize(
    ("user", "reply", "error"),
    [("user:wrong@", 0, PermissionError), ("", 2, PermissionError), ("", 5, ConnectionError)],
)
def test_a_socks_proxy_that_refuses(
    scripted: ScriptedProxy, server: syncws.Server, user: str, reply: int, error: type[Exception]
) -> None:
    running = Background(socks5, scripted, server, reply)
    with pytest.raises(error) as caught:
        connect("ws://server.invalid/", proxy=f"socks5h://{user}127.0.0.1:{scripted.port}")
    assert "wrong" not in str(caught.value)
    running.result()


def test_socks_without_python_socks(
    scripted: ScriptedProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(RuntimeError, match=r"pip install 'syncws\[proxy\]'"):
        connect("ws://server.invalid/", proxy=f"socks5h://127.0.0.1:{scripted.port}")
    scripted.accept().close()


# Which proxy


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for scheme in ["ws", "wss", "http", "https", "all", "no"]:
        for name in [f"{scheme}_proxy", f"{scheme}_proxy".upper()]:
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "variables", "host"),
    [
        ("ws://a/", {}, None),
        ("wss://a/", {"HTTPS_PROXY": "http://p:1"}, "p"),
        ("wss://a/", {"https_proxy": "p:1"}, "p"),
        ("wss://a/", {"HTTP_PROXY": "http://p:1"}, None),
        ("ws://a/", {"HTTP_PROXY": "http://p:1"}, "p"),
        ("ws://a/", {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:1"}, "q"),
        ("ws://a/", {"ALL_PROXY": "socks5h://p:1"}, "p"),
        ("wss://a.b/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "c, .b"}, None),
        ("wss://a.b/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "a.b:443"}, None),
        ("wss://a.b/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "a.b:80"}, "p"),
        ("wss://a/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, None),
        ("wss://10.1.2.3/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "x,10.0.0.0/8"}, None),
        ("wss://11.1.2.3/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "x,10.0.0.0/8"}, "p"),
        ("wss://[::1]/", {"HTTPS_PROXY": "p:1", "NO_PROXY": "::1"}, None),
    ],
)
def test_the_proxy_of_the_environment(
    environment: pytest.MonkeyPatch, url: str, variables: dict[str, str], host: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    proxy = proxy_from_environment(parse_url(url))
    assert (proxy and proxy.host) == host


def test_the_proxy_of_the_environment_is_used_unless_told_otherwise(
    environment: pytest.MonkeyPatch, scripted: ScriptedProxy, server: syncws.Server
) -> None:
    environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{scripted.port}")
    url = f"ws://127.0.0.1:{server.port}/"
    assert says_x(connect(url, proxy=None))
    call = Background(connect, url)
    with scripted.accept() as ours:
        assert read_head(ours).startswith(f"CONNECT 127.0.0.1:{server.port} ")
        ours.sendall(b"HTTP/1.1 503 Busy\r\n\r\n")
        error: Any = call.error()
    assert error.status == 503


def test_a_proxys_password_is_not_shown() -> None:
    proxy = parse_proxy("http://user:secret@p")
    assert "secret" not in f"{proxy} {proxy!r}"
    assert proxy.port == 80


def test_tls_to_the_proxy_is_an_error_that_says_so(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HTTPS_PROXY", "https://user:secret@p")
    given: list[Any] = [{}, {"proxy": "https://user:secret@p"}]
    for options in given:
        with pytest.raises(ValueError, match="write http://") as caught:
            connect("wss://server.invalid/", **options)
        assert "secret" not in str(caught.value)


# Real ones

TINYPROXY = shutil.which("tinyproxy")
SQUID = shutil.which("squid") or shutil.which("squid", path="/usr/sbin")

#: "user" with the password "pass", as htpasswd writes it: ``openssl passwd -apr1``.
PASSWORDS = "user:$apr1$syncws00$h1fmmc6a0Lt/wiqMBnjUJ.\n"


def needs(program: str | None, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        program is None and not os.environ.get("SYNCWS_TEST_EVERYTHING"),
        reason=f"needs Debian's package {package}",
    )


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    return port


@contextlib.contextmanager
def running_proxy(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: listens(port))
            yield
        finally:
            running.terminate()


def asks_for_a_password(server: syncws.Server, port: int) -> None:
    """The right password leads through the proxy, and another one, or none, does not."""
    url = f"ws://127.0.0.1:{server.port}/"
    assert says_x(connect(url, proxy=f"http://user:pass@127.0.0.1:{port}"))
    for user in ["user:wrong@", ""]:
        with pytest.raises(HandshakeError) as caught:
            connect(url, proxy=f"http://{user}127.0.0.1:{port}")
        assert caught.value.status in (401, 407)
        with pytest.raises(HandshakeError):  # it will not pass
            next(reconnect(url, proxy=f"http://{user}127.0.0.1:{port}"))
    session = next(reconnect(url, proxy=f"http://user:pass@127.0.0.1:{port}"))
    assert says_x(session)


@needs(TINYPROXY, "tinyproxy")
def test_f8_through_tinyproxy_with_a_password(server: syncws.Server, tmp_path: Path) -> None:
    port = unused_port()
    configuration = tmp_path / "tinyproxy.conf"
    configuration.write_text(
        f"Port {port}\nListen 127.0.0.1\nBasicAuth user pass\nTimeout 60\n"
        f'LogFile "{tmp_path}/log"\n'
    )
    assert TINYPROXY is not None
    with running_proxy([TINYPROXY, "-d", "-c", str(configuration)], port):
        asks_for_a_password(server, port)


@pytest.mark.load  # squid takes some seconds to start and to stop
@needs(SQUID, "squid")
def test_f8_through_squid_with_a_password(server: syncws.Server) -> None:
    port = unused_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # squid started by root has another user read the passwords
        (folder / "passwords").write_text(PASSWORDS)
        (folder / "squid.conf").write_text(
            f"""
            http_port 127.0.0.1:{port}
            auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/passwords
            auth_param basic children 1
            acl known proxy_auth REQUIRED
            http_access allow known
            http_access deny all
            access_log none
            cache_log /dev/null
            pid_filename none
            cache deny all
            coredump_dir {folder}
            shutdown_lifetime 0 seconds
            """.replace(" " * 12, "")
        )
        assert SQUID is not None
        with running_proxy([SQUID, "-N", "-f", str(folder / "squid.conf")], port):
            asks_for_a_password(server, port)


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
