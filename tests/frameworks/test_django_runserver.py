"""``manage.py runserver`` on ``serve()``, in a process of its own, and the chat in a browser."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import examples.django_echo  # noqa: F401  # configures Django
import syncws
from syncws.django.development import DevelopmentServer

from ..support.browsers import needs_chromium, two_browsers
from ..support.clients import connect, exchange, handshake
from ..support.pairs import PATIENCE
from ..support.servers import ROOT, Server, gunicorn

MANAGE = ["-m", "examples.django_chat.manage"]
BANNER = (
    r"Starting (?:WSGI )?development server at http://(?:127\.0\.0\.1|localhost|\[::1\]):(\d+)/"
)

SETTINGS = """
from examples.django_chat.settings import *
import watched
from django.urls import include, path

from syncws.django import websocket

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.utils.autoreload": {"handlers": ["console"], "level": "DEBUG"}},
}
ROOT_URLCONF = "more_urls"
"""

URLS = """
from django.urls import include, path

from syncws.django import websocket


@websocket
def echo(request, session):
    for message in session:
        session.send(message)


urlpatterns = [path("", include("examples.django_chat.urls")), path("echo/", echo)]
"""


@pytest.fixture
def project(tmp_path: Path) -> dict[str, str]:
    """The environment of the chat's project, with an echo and a module that may change."""
    (tmp_path / "more_settings.py").write_text(SETTINGS)
    (tmp_path / "more_urls.py").write_text(URLS)
    (tmp_path / "watched.py").write_text("")
    env = {
        "CHAT_DATABASE": str(tmp_path / "database"),
        "DJANGO_SETTINGS_MODULE": "more_settings",
        "DJANGO_SUPERUSER_PASSWORD": "open sesame",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    manage(env, "migrate", "--verbosity=0")
    return env


def manage(env: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, *MANAGE, *arguments],
        check=True,
        cwd=ROOT,
        env={**os.environ, **env},
        timeout=3 * PATIENCE,
    )


def runserver(env: dict[str, str], *arguments: str) -> Server:
    return Server([*MANAGE, "runserver", *arguments], BANNER, **env)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f13_runserver_serves_pages_static_files_and_websockets(
    project: dict[str, str], number: signal.Signals
) -> None:
    with runserver(project, "--noreload", "0") as server:
        server.wait_for_line("Quit the server with CONTROL-C")
        assert server.get("/").url.endswith("/accounts/login/?next=/")
        static = server.get("/static/django_chat/chat.js")
        assert "new WebSocket" in static.text
        peer = connect(server.port, "/echo/")
        peer.send("hello")
        assert peer.receive() == "hello"
        server.signal(number)
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        assert server.wait() == 0
        assert "Traceback" not in server.output
        server.wait_for_line(r'^\[../.../\d{4} ..:..:..\] "GET /static/django.* HTTP/1.1" 200 \d+$')
        server.wait_for_line('"GET /echo/ HTTP/1.1" 101 ')


@pytest.mark.load
def test_f13_a_change_reloads_and_says_goodbye(project: dict[str, str], tmp_path: Path) -> None:
    with runserver(project, "0") as server:
        peer = connect(server.port, "/echo/")
        # A change before the reloader's first look at the file would not be noticed.
        server.wait_for_line("watched.py first seen")
        (tmp_path / "watched.py").write_text("changed = True\n")
        assert peer.answer_close() == (1001, "")
        peer.expect_end()
        peer.close_socket()
        server.port = int(server.wait_for_line(BANNER, count=2)[1])
        peer = connect(server.port, "/echo/")
        peer.send("hello")
        assert peer.receive() == "hello"
        os.killpg(server.pid, signal.SIGINT)  # as a terminal does
        assert peer.answer_close() == (1001, "")
        peer.close_socket()
        server.wait()
        assert "Traceback" not in server.output


@pytest.mark.parametrize("arguments", [["[::1]:0"], ["--ipv6", "0"]])
def test_f13_runserver_listens_on_ipv6(project: dict[str, str], arguments: list[str]) -> None:
    with runserver(project, "--noreload", *arguments) as server:
        answer = requests.get(
            f"http://[::1]:{server.port}/static/django_chat/chat.js", timeout=PATIENCE
        )
        assert answer.ok
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port)).close()


def test_f13_a_name_is_looked_up_for_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether ``localhost`` has an IPv6 address differs from machine to machine."""
    asked: list[Any] = []

    def look_up(*arguments: Any) -> Any:
        asked.append(arguments)
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", arguments[1], 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server = DevelopmentServer(("somewhere", 0), None, ipv6=True)
    assert ("somewhere", 0, socket.AF_INET6, socket.SOCK_STREAM) in asked
    assert server._listener.getsockname()[0] == "::1"
    server._listener.close()


def test_f13_a_thread_that_ends_closes_its_database_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``CONN_MAX_AGE`` keeps them open between requests, and each connection has a thread."""
    closed: list[str] = []
    monkeypatch.setattr(
        connections, "close_all", lambda: closed.append(threading.current_thread().name)
    )
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    served: list[syncws.Server] = []
    monkeypatch.setattr(syncws.Server, "serve_forever", lambda server: served.append(server))
    server = DevelopmentServer(("127.0.0.1", 0), None)
    server.set_app(WSGIHandler())
    server.serve_forever()
    url = f"http://127.0.0.1:{server.server_port}/"
    requests.get(url, headers={"Connection": "close"}, timeout=PATIENCE)
    (running,) = served
    running.shutdown()
    assert [name.startswith("syncws connection 127.0.0.1:") for name in closed] == [True]


def test_f13_runserver_says_what_is_not_possible(project: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, error in (
            (["--nothreading", "0"], "--nothreading is not possible"),
            (["--noreload", port], "That port is already in use"),
        ):
            done = subprocess.run(
                [sys.executable, *MANAGE, "runserver", *arguments],
                capture_output=True,
                check=False,
                cwd=ROOT,
                env={**os.environ, **project},
                text=True,
                timeout=3 * PATIENCE,
            )
            assert done.returncode == 1
            assert error in done.stderr
            assert "Traceback" not in done.stderr


# The example


@pytest.mark.load
def test_f13_the_chat_under_gunicorn(project: dict[str, str]) -> None:
    manage(project, "createsuperuser", "--noinput", "--username=ann", "--email=a@example.com")
    env = {**project, "DJANGO_SETTINGS_MODULE": "examples.django_chat.settings"}
    settings = [f"--env={name}={value}" for name, value in env.items()]
    with gunicorn("examples.django_chat.wsgi:application", *settings) as server:
        browser = requests.Session()
        page = browser.get(server.url("/accounts/login/", "http"), timeout=PATIENCE)
        (token,) = re.findall('name="csrfmiddlewaretoken" value="(.*?)"', page.text)
        form = {"username": "ann", "password": "open sesame", "csrfmiddlewaretoken": token}
        page = browser.post(page.url, data=form, timeout=PATIENCE)
        assert "You are ann" in page.text
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies)
        peer = connect(server.port, "/ws/lobby/", f"Cookie: {cookies}")
        peer.send("hello")
        assert json.loads(str(peer.receive())) == {"name": "ann", "text": "hello"}
        server.signal(signal.SIGTERM)
        assert peer.answer_close() == (1001, "")
        peer.close_socket()
        assert server.wait() == 0
        assert "Traceback" not in server.output


@pytest.mark.load
@pytest.mark.browser
@pytest.mark.timeout(180)
@needs_chromium
def test_f13_the_chat_in_a_browser(project: dict[str, str], tmp_path: Path) -> None:
    env = {**project, "DJANGO_SETTINGS_MODULE": "examples.django_chat.settings"}
    for name in ("ann", "bob"):
        manage(env, "createsuperuser", "--noinput", f"--username={name}", "--email=a@example.com")
    with runserver(env, "--noreload", "0") as server, two_browsers(tmp_path) as browsers:
        # Without a user there is a redirect, and no WebSocket.
        head, sock, _ = exchange(server.port, handshake("/ws/lobby/"))
        sock.close()
        assert " 302 " in head
        for name, browser in zip(("ann", "bob"), browsers, strict=True):
            browser.open(server.url("/", "http"))
            browser.driver.find_element(By.NAME, "username").send_keys(name)
            browser.driver.find_element(By.NAME, "password").send_keys("open sesame", Keys.ENTER)
            browser.wait_for("state", "connected")
        ann, bob = browsers
        ann.type("<b>hello</b>")
        for browser in browsers:
            browser.wait_for("lines", "ann: <b>hello</b>")
        bob.open(server.url("/", "http"))
        bob.wait_for("lines", "ann: <b>hello</b>")  # from the database
        bob.wait_for("state", "connected")
        bob.type("hello, ann")
        ann.wait_for("lines", "bob: hello, ann")
        bob.driver.find_element(By.ID, "clear").click()
        WebDriverWait(ann.driver, PATIENCE).until_not(
            lambda driver: driver.find_element(By.ID, "lines").text
        )
        server.signal(signal.SIGINT)
        ann.wait_for("state", "closed with 1001")
