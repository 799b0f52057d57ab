"""The proxies that stand in front of gunicorn, with the configurations of ``docs/deploy``.

Only paths, ports, the host's name and users are replaced in those. Each proxy runs in the
foreground and ends with its ``with`` block.
"""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pytest
import requests
import websocket

from .background import wait_until
from .certificates import make_certificate
from .pairs import PATIENCE
from .servers import ROOT

__all__ = ["FRONTS", "Front", "Nginx", "program"]

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_APACHE_MODULES = (
    *("mpm_event", "authz_core", "socache_shmcb", "ssl", "headers"),
    *("proxy", "proxy_http"),
)


def program(name: str) -> str | None:
    """The path of a server that is perhaps installed for root only."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin")


class Front:
    """A proxy in front of ``upstream``: ``"unix:/path"`` or ``"127.0.0.1:port"``."""

    program: str
    package: str
    #: The signal for a reload of the configuration.
    reload_signal: signal.Signals
    #: The setting that cuts off idle sessions, as the file has it, and 2 seconds of it.
    idle: ClassVar[dict[str, str]]

    def __init__(self, folder: Path, upstream: str, **replaced: str) -> None:
        self.folder = folder
        key, certificate = make_certificate(folder)
        self.key, self.certificate = key, certificate
        self.tls = ssl.create_default_context(cafile=str(certificate))
        # No other process can take the port while this socket is bound to it. The proxy can: both
        # allow it, and this socket does not listen.
        with socket.socket() as self._listener:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
            self.start(upstream, replaced)
            try:
                wait_until(self._is_ready)
            except BaseException:
                self.__exit__(None, None, None)
                raise

    def start(self, upstream: str, replaced: dict[str, str]) -> None:
        """Write the configuration, and start ``self.process``."""
        raise NotImplementedError

    def written(self, name: str, replaced: dict[str, str]) -> Path:
        """A copy of the configuration ``name``, with some texts replaced."""
        text = (ROOT / "docs/deploy" / name).read_text()
        for old, new in replaced.items():
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
            text = text.replace(old, new)
        copy = self.folder / name
        copy.write_text(text)
        return copy

    def run(self, *arguments: str, **options: Any) -> None:
        with (self.folder / "front.log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(program(self.program)), *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )

    def _is_ready(self) -> bool:
        """Whether it accepts connections, and heeds the signal for a reload. haproxy ignores that
        signal for a moment after it has begun to accept."""
        assert self.process.poll() is None, self.output()
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if not int(caught.split()[1], 16) >> (self.reload_signal - 1) & 1:
            return False
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
            return True
        return False

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
        self.process.send_signal(self.reload_signal)

    def workers(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def wait_for_workers(self, condition: Callable[[set[int]], bool]) -> None:
        wait_until(lambda: condition(self.workers()))

    def output(self) -> str:
        return "".join(
            f"{path.name}:\n{path.read_text(errors='replace')}"
            for path in self.folder.glob("*.log")
        )

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Apache, told to stop right after a session, sometimes waits ten seconds for a thread of
        # its own.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if error is not None:
            print(self.output())


class Nginx(Front):
    program, package = "nginx", "nginx-light"
    reload_signal = signal.SIGHUP
    idle: ClassVar[dict[str, str]] = {"proxy_read_timeout 60s;": "proxy_read_timeout 2s;"}

    def start(self, upstream: str, replaced: dict[str, str]) -> None:
        folder = self.folder
        temporary = "".join(f"    {name}_temp_path {folder}/{name};\n" for name in _TEMPORARY)
        configuration = self.written(
            "nginx.conf",
            {
                "user www-data;": f"user {getpass.getuser()};",
                "/run/nginx.pid": f"{folder}/pid",
                "/var/log/nginx/error.log": f"{folder}/error.log",
                "/var/log/nginx/access.log": f"{folder}/access.log",
                "http {\n": "http {\n" + temporary,
                "unix:/run/example/gunicorn.sock fail_timeout": f"{upstream} fail_timeout",
                "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
                "server_name example.com;": "server_name localhost;",
                "/etc/ssl/certs/example.com.pem": str(self.certificate),
                "/etc/ssl/private/example.com.key": str(self.key),
                **replaced,
            },
        )
        # nginx takes over a socket that already listens, as it does when its program is replaced.
        # It takes it as it is: if two of its processes are told of one connection, one of them
        # would wait in accept() for the next.
        self._listener.setblocking(False)
        self._listener.listen()
        self.run(
            *("-c", str(configuration), "-g", "daemon off;"),
            pass_fds=[self._listener.fileno()],
            env={**os.environ, "NGINX": f"{self._listener.fileno()};"},
        )

    def errors(self) -> str:
        return (self.folder / "error.log").read_text()


class Haproxy(Front):
    program, package = "haproxy", "haproxy"
    reload_signal = signal.SIGUSR2
    idle: ClassVar[dict[str, str]] = {"timeout tunnel 60s": "timeout tunnel 2s"}

    def start(self, upstream: str, replaced: dict[str, str]) -> None:
        both = self.folder / "both.pem"
        both.write_text(self.certificate.read_text() + self.key.read_text())
        configuration = self.written(
            "haproxy.cfg",
            {
                "/dev/log local0": "stderr format raw local0",
                # The descriptors for more are not there on every machine of a developer.
                "maxconn 10000": "maxconn 500",
                "bind :443 ssl": f"bind 127.0.0.1:{self.port} ssl",
                "/etc/haproxy/example.com.pem": str(both),
                "unix@/run/example/gunicorn.sock": upstream.replace("unix:", "unix@"),
                **replaced,
            },
        )
        # In master-worker mode, as Debian's service starts it.
        self.run("-W", "-f", str(configuration))


class Apache(Front):
    program, package = "apache2", "apache2-bin"
    reload_signal = signal.SIGUSR1
    idle: ClassVar[dict[str, str]] = {"\nTimeout 60": "\nTimeout 2"}

    def start(self, upstream: str, replaced: dict[str, str]) -> None:
        place = f"{upstream}|http://localhost/" if "unix:" in upstream else f"http://{upstream}/"
        site = self.written(
            "apache.conf",
            {
                "<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{self.port}>",
                "ServerName example.com": "ServerName localhost",
                "/etc/ssl/certs/example.com.pem": str(self.certificate),
                "/etc/ssl/private/example.com.key": str(self.key),
                "unix:/run/example/gunicorn.sock|http://localhost/": place,
                **replaced,
            },
        )
        folder = self.folder
        # Apache refuses to serve as root.
        user = pwd.getpwuid(os.geteuid() or pwd.getpwnam("www-data").pw_uid)
        modules = "".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
            for name in _APACHE_MODULES
        )
        # The part that Debian's package brings.
        main = folder / "apache2.conf"
        main.write_text(
            f"{modules}ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\n"
            f"ErrorLog {folder}/error.log\nServerName localhost\nListen 127.0.0.1:{self.port}\n"
            f"User {user.pw_name}\nGroup {grp.getgrgid(user.pw_gid).gr_name}\n"
            f"Include {site}\n"
        )
        self.run("-D", "FOREGROUND", "-f", str(main))


def _missing(front: type[Front]) -> pytest.MarkDecorator:
    """Skips where the program is missing, unless everything has to be tested."""
    return pytest.mark.skipif(
        program(front.program) is None and not os.environ.get("SYNCWS_TEST_EVERYTHING"),
        reason=f"needs {front.program}: Debian's package {front.package}",
    )


#: Parameters for tests. nginx is in every run, the others are in the long one.
FRONTS = [
    pytest.param(Nginx, marks=_missing(Nginx)),
    pytest.param(Haproxy, marks=[_missing(Haproxy), pytest.mark.load]),
    pytest.param(Apache, marks=[_missing(Apache), pytest.mark.load]),
]
