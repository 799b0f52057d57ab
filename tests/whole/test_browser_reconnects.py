"""syncws.js in a real browser: how it reports an end to the page, and when it reconnects."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import flask
import pytest

import syncws
import syncws.static
from syncws.flask import WebSockets
from syncws.session.registry import REGISTRY

from ..support.background import wait_until
from ..support.browsers import Browser, needs_chromium
from ..support.pairs import PATIENCE

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180), needs_chromium]

PAGE = """<!doctype html><title>test</title><p id="log"></p>
<script type="module">
  import { connect } from "./syncws.js";
  const log = (text) => { document.getElementById("log").textContent += text + ";"; };
  const options = JSON.parse(new URLSearchParams(location.search).get("options"));
  const socket = window.socket = connect(new URLSearchParams(location.search).get("to"), options);
  socket.addEventListener("open", () => log(`open ${socket.send("hello")}`));
  socket.addEventListener("message", (event) => log(`message ${event.data}`));
  socket.addEventListener("wait", ({ detail }) => log(`wait ${detail.busy}`));
  socket.addEventListener("close", ({ detail }) =>
    log(`close ${detail.code} ${detail.reason} ${detail.final} ${socket.send("lost")}`));
</script>"""


class Application:
    """An application that serves pages and notes their requests."""

    def __init__(self) -> None:
        self.flask = flask.Flask(__name__)
        self.asked: list[str] = []
        websockets = WebSockets(self.flask, refuse="close")

        @self.flask.get("/")
        def page() -> str:
            return PAGE

        @self.flask.get("/syncws.js")
        def script() -> flask.Response:
            return flask.send_from_directory(syncws.static.FOLDER, "syncws.js")

        @self.flask.before_request
        def guard() -> Any:
            request = flask.request
            if request.path.startswith(("/refuse", "/room")):
                self.asked.append(request.full_path.rstrip("?"))
            if request.path.startswith("/refuse/"):
                flask.abort(int(request.path[8:]))

        @websockets.route("/room")
        def room(session: syncws.Session) -> None:
            assert session.receive(PATIENCE) == "hello"
            if len(self.asked) == 1:
                session.send_json({"id": "7-1"})
                session.close(1012, "restart")
            else:
                session.send("again")
                session.receive()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application) -> Iterator[syncws.Server]:
    with syncws.serve(application.flask, "127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    running = Browser(tmp_path_factory.mktemp("browser"))
    yield running
    running.driver.quit()


def open_page(browser: Browser, server: syncws.Server, to: str, options: str = "{}") -> None:
    browser.open(f"http://127.0.0.1:{server.port}/?to={to}&options={options}")


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (401, "close 3000 401 UNAUTHORIZED true false;"),
        (403, "close 3003 403 FORBIDDEN true false;"),
        (404, "close 4404 404 NOT FOUND true false;"),
    ],
)
def test_f9_a_browser_reads_the_refusal_and_stops(
    browser: Browser, server: syncws.Server, application: Application, status: int, shown: str
) -> None:
    open_page(browser, server, f"/refuse/{status}", '{"first":1,"most":2}')
    browser.wait_for("log", shown)
    assert browser.driver.execute_script("return socket.state") == "closed"
    # A wait is 2 ms at most, so a second attempt would have arrived by now.
    browser.driver.execute_async_script("setTimeout(arguments[0], 100)")
    assert application.asked == [f"/refuse/{status}"]


def test_f9_a_browser_stays_connected(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    open_page(browser, server, "/room", '{"first":1}')
    browser.wait_for("log", "message again")
    log = browser.driver.execute_script("return document.getElementById('log').textContent")
    assert log == (
        'open true;message {"id":"7-1"};close 1012 restart false false;wait false;'
        "open true;message again;"
    )
    assert application.asked == ["/room", "/room?after=7-1"]
    browser.driver.execute_script("socket.close(1000, 'enough')")
    browser.wait_for("log", "close 1000 enough true false;")


def test_back_online_ends_the_wait(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    open_page(browser, server, "/room", '{"first":1e9,"most":1e9}')
    browser.wait_for("log", "wait false")
    assert browser.driver.execute_script("return socket.state") == "waiting"
    browser.driver.execute_script("dispatchEvent(new Event('online'))")
    browser.wait_for("log", "message again")


def test_a_wait_of_any_length_is_no_busy_loop(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    """Timers count 31 bits of milliseconds."""
    open_page(browser, server, "/room", '{"first":1e30,"most":1e30}')
    browser.wait_for("log", "wait false")
    browser.driver.execute_async_script("setTimeout(arguments[0], 100)")
    assert browser.driver.execute_script("return socket.state") == "waiting"
    assert application.asked == ["/room"]


def test_a_url_that_can_not_be_had_any_more_ends_it(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    open_page(browser, server, "/refuse/404")
    browser.wait_for("log", "close 4404")
    application.asked.clear()  # the room closes the first connection
    code, reason, final, state = browser.driver.execute_async_script(
        """const done = arguments[0];
        const urls = ["/room"];
        const url = () => {
          if (urls.length) return urls.pop();
          throw new Error("no token");
        };
        import("./syncws.js").then(({ connect }) => {
          const socket = connect(url, { first: 1 });
          socket.addEventListener("open", () => socket.send("hello"));
          socket.addEventListener("close", ({ detail: { code, reason, final } }) => {
            if (final) done([code, reason, final, socket.state]);
          });
        });"""
    )
    assert (code, reason, final, state) == (1006, "Error: no token", True, "closed")


@contextlib.contextmanager
def offline(browser: Browser) -> Iterator[None]:
    """The browser has no network: it says so to the page, and opens no connection. Chromium leaves
    those that are open alone, so the test has the server cut them."""
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    command = "Network.emulateNetworkConditions"
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd(command, {"offline": True, **conditions})
    try:
        yield
    finally:
        browser.driver.execute_cdp_cmd(command, {"offline": False, **conditions})


def cut_sessions() -> None:
    for session in REGISTRY.oldest_first():
        assert isinstance(session, syncws.Session)
        session.terminate()


def test_f9_a_browser_without_a_network_comes_back_when_it_has_one(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    """The wait would last for days: the browser's own event ends it."""
    application.asked.append("an earlier one")
    open_page(browser, server, "/room", '{"first":1e9,"most":1e9}')
    browser.wait_for("log", "message again")
    with offline(browser):
        cut_sessions()
        browser.wait_for("log", "close 1006 false false;wait false;")
        assert browser.driver.execute_script("return navigator.onLine") is False
    browser.wait_for("log", "wait false;open true;message again;")
    assert len(application.asked) == 3


def test_attempts_without_a_network_fail_and_go_on(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    application.asked.append("an earlier one")
    open_page(browser, server, "/room", '{"first":1,"most":5}')
    browser.wait_for("log", "message again")
    with offline(browser):
        cut_sessions()
        browser.wait_for("log", 5 * "close 1006 false false;wait false;")
        assert len(application.asked) == 2
    browser.wait_for("log", "wait false;open true;message again;")


def test_a_busy_server_is_not_asked_again_soon(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    open_page(browser, server, "/refuse/503", '{"first":1}')
    browser.wait_for("log", "wait true")
    # It does not reconnect even when the network is back.
    browser.driver.execute_script("dispatchEvent(new Event('online'))")
    browser.driver.execute_async_script("setTimeout(arguments[0], 100)")
    assert application.asked == ["/refuse/503"]
    browser.driver.execute_script("socket.close()")
    browser.wait_for("log", "close 1000 true false;")


def test_a_page_that_is_left_closes_its_connection(
    browser: Browser, server: syncws.Server, application: Application
) -> None:
    application.asked.append("an earlier one")
    open_page(browser, server, "/room")
    browser.wait_for("log", "message again")
    assert syncws.stats().open == 1
    browser.open("about:blank")
    wait_until(lambda: syncws.stats().open == 0)
