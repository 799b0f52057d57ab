"""The chat in two windows of a real browser."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from selenium.webdriver.common.by import By

from ..support.browsers import Browser, needs_chromium, two_browsers
from ..support.pairs import PATIENCE
from ..support.redis_server import RedisServer
from ..support.servers import Server, gunicorn

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180), needs_chromium]


@pytest.fixture
def browsers(tmp_path: Path) -> Iterator[tuple[Browser, Browser]]:
    with two_browsers(tmp_path) as both:
        yield both


def start(port: int = 0) -> Server:
    return gunicorn("examples.chat:app", f"--bind=127.0.0.1:{port}")


def test_two_browsers_talk_and_reconnect(browsers: tuple[Browser, Browser]) -> None:
    ann, bob = browsers
    with start() as server:
        ann.open(server.url("/", "http"))
        ann.type("Ann")
        ann.wait_for("state", "connected")
        bob.open(server.url("/?name=Bob", "http"))
        ann.wait_for("log", "Bob joined")
        bob.wait_for("members", "2 here")
        ann.type("hello, Bob")
        bob.wait_for("log", "hello, Bob")
        bob.type("<i>hello</i>, Ann")
        ann.wait_for("log", "<i>hello</i>, Ann")
        # Chromium would keep the connection of a page that it keeps for the
        # back button; the page knows better.
        bob.open("about:blank")
        ann.wait_for("log", "Bob left")
        bob.open(server.url("/?name=Bob", "http"))
        ann.wait_for("members", "2 here")
        port = server.port
        server.signal(signal.SIGTERM)
        server.wait()
        assert "Traceback" not in server.output
    for browser in browsers:
        browser.wait_for("state", "reconnecting")
    with start(port):
        for browser in browsers:
            browser.wait_for("state", "connected")
            browser.wait_for("members", "2 here")
        bob.type("back again")
        ann.wait_for("log", "back again")
        folder = os.environ.get("SYNCWS_SCREENSHOTS")
        if folder:
            ann.driver.save_screenshot(f"{folder}/chat.png")


@pytest.mark.load
def test_browsers_on_different_workers_talk(
    browsers: tuple[Browser, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers are connected by Redis, which is killed and started again."""
    ann, bob = browsers
    redis = RedisServer()
    monkeypatch.setenv("REDIS_URL", redis.url)
    try:
        with gunicorn("tests.support.chat_app:app", "--workers=4") as server:
            server.wait_for_line("worker is ready", count=4)
            ann.open(server.url("/?name=Ann", "http"))
            ann.wait_for("state", "connected")
            # Repeat until they are on different workers: the test can not choose which worker
            # accepts a connection.
            while True:
                bob.open(server.url("/?name=Bob", "http"))
                bob.wait_for("members", "2 here")
                if len(members_by_worker(server)) == 2:
                    break
                bob.open("about:blank")
                ann.wait_for("members", "1 here")
            ann.type("hello, Bob")
            bob.wait_for("log", "hello, Bob")
            requests.post(server.url("/notify", "http"), {"text": "lunch"}, timeout=PATIENCE)
            for browser in browsers:
                browser.wait_for("log", "lunch")
            redis.kill()
            server.wait_for_line("the hub has lost its bus", count=2)
            ann.type("is anybody there?")
            ann.wait_for("log", "is anybody there?")
            redis.start()
            number = 0
            while "back again" not in bob.driver.find_element(By.ID, "log").text:
                number += 1
                ann.type(f"back again {number}")
                ann.wait_for("log", f"back again {number}")
            server.stop()
            assert "Traceback" not in server.output
    finally:
        redis.kill()


@pytest.mark.load
def test_f3_a_page_shows_every_line_once_and_in_order_over_reloads(
    browsers: tuple[Browser, Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, _ = browsers
    redis = RedisServer()
    monkeypatch.setenv("REDIS_URL", redis.url)
    try:
        with gunicorn("examples.chat:app", "--workers=2") as server:
            server.wait_for_line("worker is ready", count=2)
            ann.open(server.url("/?name=Ann", "http"))
            ann.wait_for("members", "1 here")
            lines = []
            for number in range(60):
                if number % 20 == 10:
                    server.signal(signal.SIGHUP)
                lines.append(f"line {number}.")
                answer = requests.post(
                    server.url("/notify", "http"), {"text": lines[-1]}, timeout=PATIENCE
                )
                assert answer.text == "sent\n"
                time.sleep(0.05)  # people talk while a worker is replaced
            ann.wait_for("log", lines[-1])
            shown = ann.driver.find_elements(By.CSS_SELECTOR, "#log .say")
            assert [each.text.removeprefix("notice\n") for each in shown] == lines
            server.signal(signal.SIGTERM)
            server.wait(6 * PATIENCE)  # the last reload may still be going on
    finally:
        redis.kill()


def members_by_worker(server: Server) -> dict[str, int]:
    """How many of the two members are in each worker. It asks until both have been found."""
    found: dict[str, int] = {}
    deadline = time.monotonic() + 3 * PATIENCE
    while sum(found.values()) != 2:
        assert time.monotonic() < deadline, found
        found.update(server.get("/members").json())
    return {pid: number for pid, number in found.items() if number}
