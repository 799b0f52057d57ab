"""The program of the tutorial, stage by stage: each runs, and does what its page says."""

from __future__ import annotations

import difflib
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from flask import Flask

import syncws
from syncws.testing import Peer, WebSocketClient

from ..support.background import wait_until
from ..support.browsers import Browser, needs_chromium
from ..support.pairs import PATIENCE
from ..support.redis_server import RedisServer
from ..support.servers import NO_CONTROL_SOCKET, Server
from .blocks import DOCS

pytest_plugins = ["pytester"]

TUTORIAL = DOCS / "tutorial"


def app_of(stage: int) -> Flask:
    app = runpy.run_path(str(TUTORIAL / f"stage{stage}" / "app.py"), run_name="app")["app"]
    assert isinstance(app, Flask)
    return app


def enter(app: Flask, name: str, path: str) -> Peer:
    browser = app.test_client()
    assert browser.get("/").location == "/login"
    assert "Who are you?" in browser.get("/login").text
    assert browser.post("/login", data={"name": name}).location == "/"
    return WebSocketClient(app, cookies=browser, timeout=PATIENCE).connect(path)


def next_with(peer: Peer, key: str, value: Any = None) -> Any:
    """The peer's next message that has this key, and this value if one is given."""
    while key not in (message := peer.receive_json()) or value not in (None, message[key]):
        pass
    return message


def be_there(peer: Peer) -> None:
    """Wait until the peer is in the room: it hears itself."""
    peer.send("is it on?")
    next_with(peer, "text", "is it on?")


def test_stage_1_everybody_reads_what_everybody_says() -> None:
    app = app_of(1)
    assert "<form" in app.test_client().get("/").text
    client = WebSocketClient(app, timeout=PATIENCE)
    with client.connect("/chat") as ann, client.connect("/chat") as bob:
        be_there(bob)
        ann.send("hello")
        for peer in (ann, bob):
            assert next_with(peer, "text", "hello") == {"text": "hello"}


def test_stage_2_everybody_has_a_name() -> None:
    app = app_of(2)
    with enter(app, "Ann", "/chat") as ann, enter(app, "Bob", "/chat") as bob:
        be_there(bob)
        ann.send("hello")
        for peer in (ann, bob):
            assert next_with(peer, "text", "hello") == {"name": "Ann", "text": "hello"}


@pytest.mark.parametrize(("stage", "path"), [(2, "/chat"), (3, "/rooms/red"), (4, "/rooms/red")])
def test_a_stranger_is_sent_to_the_login(stage: int, path: str) -> None:
    app = app_of(stage)
    with pytest.raises(syncws.HandshakeError) as refused:
        WebSocketClient(app).connect(path)
    assert refused.value.status == 302
    page = WebSocketClient(app, headers={"Origin": "http://localhost"}, timeout=PATIENCE)
    with page.connect(path) as peer:
        assert peer.wait_closed().code == 3000


def test_stage_3_there_are_rooms_and_everybody_sees_who_is_there() -> None:
    app = app_of(3)
    browser = app.test_client()
    browser.post("/login", data={"name": "Ann"})
    assert browser.get("/?room=red").location == "/rooms/red"
    assert "<h1>red</h1>" in browser.get("/rooms/red").text
    with (
        enter(app, "Ann", "/rooms/red") as ann,
        enter(app, "Bob", "/rooms/red"),
        enter(app, "Eve", "/rooms/blue") as eve,
    ):
        assert next_with(eve, "members") == {"members": ["Eve"]}
        next_with(ann, "members", ["Ann", "Bob"])
        eve.send("nobody hears it")
        assert next_with(eve, "text")
        ann.send("hello")
        assert next_with(ann, "text") == {"name": "Ann", "text": "hello"}


def test_stage_4_the_room_remembers() -> None:
    app = app_of(4)
    with app.test_client().get("/syncws.js") as script:
        assert "export function connect" in script.get_data(as_text=True)
    with enter(app, "Ann", "/rooms/red") as ann:
        ann.send("one")
        last = next_with(ann, "text")["id"]
        ann.send("two")
        next_with(ann, "text")
    browser = app.test_client()
    browser.post("/login", data={"name": "Bob"})
    assert f'"id": "{last}"' in browser.get("/rooms/red").text
    with enter(app, "Bob", f"/rooms/red?after={last}") as bob:
        assert bob.receive_json()["text"] == "two"
    with enter(app, "Bob", "/rooms/red") as bob:
        assert bob.receive_json() == {"reload": True}, "the room had lines when its page had none"
    with enter(app, "Bob", "/rooms/red?after=nonsense") as bob:
        assert bob.receive_json() == {"reload": True}


def test_a_page_does_not_load_itself_for_ever_when_all_lines_are_too_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = syncws.History(seconds=0.2)
    monkeypatch.setattr(syncws, "History", lambda **_: history)
    app = app_of(4)
    browser = app.test_client()
    browser.post("/login", data={"name": "Ann"})
    with enter(app, "Ann", "/rooms/red") as ann:
        be_there(ann)
    wait_until(lambda: "is it on?" not in browser.get("/rooms/red").text)
    with enter(app, "Ann", "/rooms/red") as ann:
        assert "members" in ann.receive_json()


@pytest.mark.parametrize("stage", [5, 6])
def test_f16_the_tests_of_the_tutorial_pass(
    stage: int, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "")  # and restore it: stage 6 sets it
    shutil.copytree(TUTORIAL / f"stage{stage}", pytester.path, dirs_exist_ok=True)
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=4)


@pytest.mark.load
def test_stage_6_runs_in_two_workers() -> None:
    redis = RedisServer()
    command = ["-m", "gunicorn", "--bind=127.0.0.1:0", *NO_CONTROL_SOCKET]
    command += ["--chdir", str(TUTORIAL / "stage6"), "app:app"]
    env = {"SECRET_KEY": "of the tests", "REDIS_URL": redis.url}
    try:
        config = f"--config={TUTORIAL / 'stage6' / 'gunicorn.conf.py'}"
        listening = r"Listening at: http://127\.0\.0\.1:(\d+)"
        with Server([*command, config], listening, **env) as server:
            members = [join_over_the_network(server, f"guest {n}") for n in range(6)]
            for member in members:
                assert "members" in member.recv(), "it is in the room"
            members[0].send("hello")
            for member in members:
                while "text" not in (line := member.recv()):
                    pass
                assert "guest 0" in line
            for member in members:
                member.close()
            server.stop()
            assert "Traceback" not in server.output
    finally:
        redis.kill()


def join_over_the_network(server: Server, name: str) -> websocket.WebSocket:
    with requests.Session() as browser:
        url = server.url("/login", "http")
        browser.post(url, {"name": name}, timeout=PATIENCE, allow_redirects=False)
        cookie = f"session={browser.cookies['session']}"
    return websocket.create_connection(
        server.url("/rooms/red"), timeout=PATIENCE, header=[f"Cookie: {cookie}"]
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.driver.quit()


@needs_chromium
@pytest.mark.browser
@pytest.mark.load
@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_each_stage_in_a_browser(stage: int, browser: Browser) -> None:
    with syncws.serve(app_of(stage), "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.port}/"
        browser.open(url)
        browser.driver.delete_all_cookies()  # those of this page
        browser.open(url)
        if stage > 1:
            browser.fill("name", "Ann")
        if stage > 2:
            browser.fill("room", "red")
            browser.wait_for("members", "Ann")
        if stage < 4:
            browser.wait_until_enabled("send")
        browser.type("hello <b>")
        browser.wait_for("lines", "hello <b>" if stage == 1 else "Ann hello <b>")
        if stage > 3:
            browser.driver.refresh()
            browser.wait_for("lines", "Ann hello <b>")
            browser.wait_for("members", "Ann")
            browser.type("again")
            browser.wait_for("lines", "Ann again")
        browser.open("about:blank")


def test_the_pages_mark_the_lines_that_are_new() -> None:
    """``:emphasize-lines:`` of each program is what differs from the stage before."""
    pages = "".join(page.read_text() for page in TUTORIAL.glob("*.md"))
    shown = re.findall(
        r"```\{literalinclude\} (stage(\d)/(\S+))\n"
        r":language: \w+\n(?::emphasize-lines: (\S+)\n)?```",
        pages,
    )
    assert {f"stage{stage}/app.py" for stage in (1, 2, 3, 4, 6)} <= {entry[0] for entry in shown}
    for path, stage, name, emphasized in shown:
        before = TUTORIAL / f"stage{int(stage) - 1}" / name
        if before.exists():
            assert emphasized == new_lines(before, TUTORIAL / path), path
        else:
            assert not emphasized, path


def new_lines(before: Path, after: Path) -> str:
    old, new = (path.read_text().splitlines() for path in (before, after))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    ranges = [(a, b) for tag, _, _, a, b in matcher.get_opcodes() if tag in {"insert", "replace"}]
    return ",".join(f"{a + 1}" if b == a + 1 else f"{a + 1}-{b}" for a, b in ranges)
