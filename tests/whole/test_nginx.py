"""nginx in front of gunicorn, with the configuration of the examples."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import requests
import websocket

from ..support import faults
from ..support.background import wait_until
from ..support.certificates import make_certificate
from ..support.pairs import PATIENCE
from ..support.servers import (
    ROOT,
    Server,
    gunicorn,
    status_when,
)

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(
    NGINX is None and not os.environ.get("SYNCWS_TEST_EVERYTHING"),
    reason="needs nginx: Debian's package nginx-light",
)

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """nginx with the configuration of the examples, but with other paths and another host name."""

    def __init__(self, folder: Path, upstream: str, **replaced: str) -> None:
        self._log = folder / "error.log"
        key, certificate = make_certificate(folder)
        self.tls = ssl.create_default_context(cafile=str(certificate))
        self.certificate = certificate
        # nginx takes over a socket that already listens, as it does when its program is replaced.
        # No other process can take the port, and clients need not wait until nginx has started.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in TEMPORARY)
            self._configuration = folder / "nginx.conf"
            self._configuration.write_text(
                _replace(
                    (ROOT / "examples/nginx.conf").read_text(),
                    {
                        "user www-data;": f"user {getpass.getuser()};",
                        "/run/nginx.pid": f"{folder}/pid",
                        "/var/log/nginx/error.log": str(self._log),
                        "/var/log/nginx/access.log": f"{folder}/access.log",
                        "http {\n": "http {\n" + temporary,
                        "unix:/run/example/gunicorn.sock fail_timeout": f"{upstream} fail_timeout",
                        "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
                        "server_name example.com;": "server_name localhost;",
                        "/etc/ssl/certs/example.com.pem": str(certificate),
                        "/etc/ssl/private/example.com.key": str(key),
                        **replaced,
                    },
                )
            )
            self._process = subprocess.Popen(
                [str(NGINX), "-c", str(self._configuration), "-g", "daemon off;"],
                pass_fds=[listener.fileno()],
                env={**os.environ, "NGINX": f"{listener.fileno()};"},
                start_new_session=True,
            )

    def connect(
        self,
        path: str,
        *,
        origin: str | None = None,
        source: str = "127.0.0.1",
        headers: tuple[str, ...] = (),
    ) -> Any:
        """Open a session as a browser would. By default the page comes from this host."""
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0))
        sock = self.tls.wrap_socket(plain, server_hostname="localhost")
        url = f"wss://localhost:{self.port}{path}"
        return websocket.create_connection(url, socket=sock, origin=origin, header=list(headers))

    def get(self, path: str) -> requests.Response:
        url = f"https://localhost:{self.port}{path}"
        return requests.get(url, verify=str(self.certificate), timeout=PATIENCE)

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def workers(self) -> set[int]:
        pid = self._process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def wait_for_workers(self, condition: Callable[[set[int]], bool]) -> None:
        wait_until(lambda: condition(self.workers()))

    def errors(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> Nginx:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise
        finally:
            if error is not None:
                print(self.errors())


def _replace(text: str, replaced: dict[str, str]) -> str:
    for old, new in replaced.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the configuration"
        text = text.replace(old, new)
    return text


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """gunicorn that listens on a Unix socket and on a port."""
    with gunicorn(
        "tests.support.app:behind_a_proxy()", f"--bind=unix:{tmp_path}/gunicorn.sock"
    ) as server:
        yield server
        server.stop()
        assert "Traceback" not in server.output


@pytest.fixture
def nginx(tmp_path: Path, server: Server) -> Iterator[Nginx]:
    with Nginx(tmp_path, f"unix:{tmp_path}/gunicorn.sock") as nginx:
        yield nginx


def echoes(client: Any, message: str = "hello") -> bool:
    client.send(message)
    return bool(client.recv() == message)


def ends_with(client: Any) -> int:
    """Receive the Close, and return its code."""
    opcode, payload = client.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE, (opcode, payload)
    client.shutdown()
    return int.from_bytes(payload[:2], "big")


def test_http_and_a_session_through_nginx(nginx: Nginx) -> None:
    assert nginx.get("/").text == "plain HTTP\n"
    client = nginx.connect("/echo")
    assert echoes(client, "héllo")
    client.close()
    assert nginx.get("/").text == "plain HTTP\n"
    assert nginx.errors() == ""


def test_large_message_through_nginx(nginx: Nginx) -> None:
    client = nginx.connect("/echo")
    assert echoes(client, "x" * 1024 * 1024)
    client.close()


def test_pings_keep_an_idle_session_open_and_nothing_else_does(
    tmp_path: Path, server: Server
) -> None:
    shorter = {"proxy_read_timeout 60s;": "proxy_read_timeout 2s;"}
    with Nginx(tmp_path, f"unix:{tmp_path}/gunicorn.sock", **shorter) as nginx:
        lively = nginx.connect("/lively")
        silent = nginx.connect("/silent")
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            silent.recv()
        silent.shutdown()
        # This session was idle for the same time, except for its pings.
        assert echoes(lively)
        lively.close()


@pytest.mark.parametrize("upstream", ["socket", "port"])
def test_the_application_sees_the_peer_and_not_nginx(
    tmp_path: Path, server: Server, upstream: str
) -> None:
    place = f"127.0.0.1:{server.port}" if upstream == "port" else f"unix:{tmp_path}/gunicorn.sock"
    with Nginx(tmp_path, place) as nginx:
        forged = ("X-Forwarded-For: 192.0.2.66", "X-Forwarded-Proto: gopher")
        client = nginx.connect("/rooms/lobby", source="127.0.0.5", headers=forged)
        told = json.loads(client.recv())
        client.close()
        assert told["address"][0] == "127.0.0.5"
        assert told["url"] == f"https://localhost:{nginx.port}/rooms/lobby"
        server.wait_for_line(r"GET /rooms/lobby HTTP/1\.1. 101")


def test_pages_of_the_same_host_are_let_in_and_others_are_not(nginx: Nginx, server: Server) -> None:
    client = nginx.connect("/echo", origin=f"https://localhost:{nginx.port}")
    assert echoes(client)
    client.close()
    for origin in ("https://evil.example", f"https://localhost:{nginx.port + 1}"):
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            nginx.connect("/echo", origin=origin)
        assert refused.value.status_code == 403
        assert origin.encode() in (refused.value.resp_body or b"")


def test_a_reload_of_nginx_leaves_sessions_alone(nginx: Nginx) -> None:
    client = nginx.connect("/echo")
    before = nginx.workers()
    nginx.reload()
    nginx.wait_for_workers(lambda workers: bool(workers - before))
    another = nginx.connect("/echo")
    for one in (client, another):
        assert echoes(one)
        one.close()
    nginx.wait_for_workers(lambda workers: not workers & before)


def test_a_deploy_of_gunicorn_says_goodbye_through_nginx(nginx: Nginx, server: Server) -> None:
    clients = [nginx.connect("/echo") for _ in range(20)]
    server.signal(signal.SIGHUP)
    for client in clients:
        assert ends_with(client) == 1001
    server.wait_for_line("worker is ready", count=2)
    client = nginx.connect("/echo")
    assert echoes(client)
    client.close()
    assert nginx.errors() == ""


def test_many_sessions_that_end_in_each_way_leave_nothing(nginx: Nginx, server: Server) -> None:
    for _ in range(5):
        clients = [nginx.connect("/echo") for _ in range(30)]
        for number, client in enumerate(clients):
            assert echoes(client, str(number))
        for number, client in enumerate(clients):
            if number % 3 == 0:
                client.close()
            elif number % 3 == 1:
                client.shutdown()
            else:
                faults.reset(client.sock)
    for _ in range(30):
        client = nginx.connect("/returns")
        assert client.recv() == "bye"
        assert ends_with(client) == 1000
    status_when(server, lambda status: status["connections"] == 1 and status["threads"] == 0)
