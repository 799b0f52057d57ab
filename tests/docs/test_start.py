"""The first programs that a reader runs: one chat with each framework, and the page."""

from __future__ import annotations

import contextlib
import runpy
import shutil
from pathlib import Path

import pytest
import websocket

import syncws

from ..support.browsers import Browser, needs_chromium
from ..support.pairs import PATIENCE
from ..support.servers import Server, gunicorn
from .blocks import DOCS


def check_page(server: Server) -> None:
    # The response keeps its connection open as long as it is referred to, and gunicorn 26 waits for
    # such a connection when it stops.
    page = server.get("/")
    assert page.ok
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.content == (DOCS / "start" / "page.html").read_bytes()


@pytest.mark.parametrize("framework", ["flask", "django", "wsgi"])
def test_f16_the_chat_of_the_first_page(framework: str, tmp_path: Path) -> None:
    shutil.copy(DOCS / "start" / framework / "app.py", tmp_path)
    shutil.copy(DOCS / "start" / "page.html", tmp_path)
    with gunicorn("app:app", f"--chdir={tmp_path}") as server:
        check_page(server)
        with contextlib.ExitStack() as stack:
            ann, bob = (
                stack.enter_context(
                    contextlib.closing(
                        websocket.create_connection(server.url("/chat"), timeout=PATIENCE)
                    )
                )
                for _ in range(2)
            )
            bob.send("Bob is here")  # and in the room, when he hears it
            assert bob.recv() == "Bob is here"
            ann.send("hello")
            assert bob.recv() == "hello"
        server.stop()
        assert "Traceback" not in server.output


@needs_chromium
@pytest.mark.browser
@pytest.mark.load
def test_the_page_in_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS / "start")
    app = runpy.run_path(str(DOCS / "start" / "wsgi" / "app.py"))["app"]
    browser = Browser(tmp_path)
    try:
        with syncws.serve(app, "127.0.0.1", 0) as server:
            browser.open(f"http://127.0.0.1:{server.port}/")
            browser.wait_until_enabled("send")
            browser.type("hello <b>")
            browser.wait_for("lines", "hello <b>")
    finally:
        browser.driver.quit()
