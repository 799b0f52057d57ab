"""The gallery of examples: each one as a client sees it, and its page in a real browser."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import syncws
from examples import drawing, echo, load, log_tail, upload
from syncws.testing import Peer, WebSocketClient

from ..support.background import wait_until
from ..support.browsers import Browser, needs_chromium
from ..support.pairs import PATIENCE
from ..support.servers import NO_CONTROL_SOCKET, ROOT, Server, gunicorn

GALLERY = (ROOT / "examples" / "README.md").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    window = Browser(tmp_path_factory.mktemp("browser"))
    yield window
    window.driver.quit()


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    for mark in (needs_chromium, pytest.mark.timeout(180), pytest.mark.browser, pytest.mark.load):
        test = mark(test)
    return test


def of_type(peer: Peer | syncws.ClientSession, kind: str) -> Any:
    """The next message of this type."""
    while (message := peer.receive_json(PATIENCE))["type"] != kind:
        pass
    return message


def test_the_gallery_lists_each_example_and_how_to_start_it() -> None:
    listed = set(re.findall(r"\]\((\w+)(?:\.py|/__init__\.py)\)", GALLERY))
    modules = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    assert listed == modules | {"django_chat"}
    for name in listed:
        path = ROOT / "examples" / f"{name}.py"
        if not path.exists():
            path = ROOT / "examples" / name / "__init__.py"
        first_lines = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert re.search(rf"gunicorn|python -m examples\.{name}", first_lines), name


# -- Drawing


def stroke(*points: int) -> dict[str, Any]:
    return {"type": "stroke", "hue": 120, "width": 6, "points": list(points)}


def test_the_drawing_is_the_same_for_all_and_for_newcomers() -> None:
    client = WebSocketClient(drawing.app)
    with client.connect("/drawing") as ann, client.connect("/drawing") as bob:
        ann.send_json({"type": "clear"})
        of_type(bob, "clear")
        ann.send_json(stroke(1, 2, 3, 4))
        drawn = of_type(bob, "stroke")
        assert drawn["points"] == [1, 2, 3, 4]
        assert of_type(ann, "stroke") == drawn
        with client.connect("/drawing") as newcomer:
            assert of_type(newcomer, "stroke") == drawn
        with client.connect(f"/drawing?after={drawn['id']}") as comes_back:
            ann.send_json(stroke(5, 6, 7, 8))
            assert comes_back.receive_json(PATIENCE)["points"] == [5, 6, 7, 8]


@pytest.mark.parametrize(
    "message",
    [
        "no JSON",
        "[]",
        '{"type": "reload"}',
        json.dumps({**stroke(1, 2, 3, 4), "more": 1}),
        json.dumps(stroke(1, 2)),
        json.dumps(stroke(1, 2, 3, 10**9)),
        json.dumps({**stroke(1, 2, 3, 4), "hue": "red"}),
        '{"type": "stroke", "hue": 1, "width": 1, "points": [1, 2, 3, NaN]}',
    ],
)
def test_the_drawing_takes_nothing_that_a_page_could_not_draw(message: str) -> None:
    with WebSocketClient(drawing.app).connect("/drawing") as peer:
        peer.send(message)
        assert peer.wait_closed(PATIENCE).code == 1008


@in_a_browser
def test_the_page_of_the_drawing(browser: Browser) -> None:
    with gunicorn("examples.drawing:app") as server:
        browser.open(server.url("/", "http"))
        browser.wait_for("state", "connected")
        canvas = browser.driver.find_element(By.ID, "canvas")
        line = ActionChains(browser.driver, duration=20).move_to_element(canvas).click_and_hold()
        line.move_by_offset(80, 40).move_by_offset(40, -60).release().perform()
        wait_until(lambda: canvas.get_attribute("data-strokes") is not None)
        # Something coloured is in the middle of the paper.
        assert browser.driver.execute_script(
            "const c = document.getElementById('canvas');"
            "return c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data[3];"
        )
        with syncws.connect(server.url("/drawing")) as other:
            assert of_type(other, "stroke")["points"]
            # From the page, so that the strokes are before it.
            browser.driver.find_element(By.ID, "clear").click()
            of_type(other, "clear")
            wait_until(
                lambda: browser.driver.execute_script(
                    "const c = document.getElementById('canvas');"
                    "return c.getContext('2d').getImageData(0, 0, c.width, c.height)"
                    ".data.every((each) => each === 0);"
                )
            )


# -- Log tail


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setattr(log_tail, "LOG", path)
    monkeypatch.setattr(log_tail, "LOOK_EVERY", 0.01)
    return path


def test_the_log_is_shown_while_it_grows_and_when_it_is_rotated(log: Path) -> None:
    with WebSocketClient(log_tail.app).connect("/log") as peer:
        log.write_text("one\ntwo\n")
        assert [peer.receive(PATIENCE), peer.receive(PATIENCE)] == ["one", "two"]
        with log.open("a") as file:
            file.write("thr")
            file.flush()
            with pytest.raises(TimeoutError):
                peer.receive(0.1)  # half a line is not shown
            file.write("ee\n")
        assert peer.receive(PATIENCE) == "three"
        log.rename(log.with_suffix(".1"))
        log.write_text("a new log\n")
        assert peer.receive(PATIENCE) == "a new log"
        peer.send("before  the\ndeploy")
        assert re.fullmatch(r"[\d-]+ [\d:]+ MARK before the deploy", str(peer.receive(PATIENCE)))


def test_a_page_gets_the_last_lines_of_a_long_log(log: Path) -> None:
    log.write_text("".join(f"line {number}\n" for number in range(20_000)))
    with WebSocketClient(log_tail.app).connect("/log") as peer:
        assert peer.receive(PATIENCE) == f"line {20_000 - log_tail.LINES}"


@in_a_browser
def test_the_page_of_the_log(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_text("12:00 INFO started\n12:01 ERROR <b>failed</b>\n")
    monkeypatch.setenv("LOG", str(path))
    with gunicorn("examples.log_tail:app") as server:
        browser.open(server.url("/", "http"))
        browser.wait_for("log", "12:01 ERROR <b>failed</b>")
        browser.type("before the deploy")
        browser.wait_for("log", "MARK before the deploy")
        browser.driver.find_element(By.ID, "filter").send_keys("deploy")
        wait_until(lambda: "started" not in browser.driver.find_element(By.ID, "log").text)
        server.stop()
        assert "Traceback" not in server.output


# -- Upload


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(upload, "UPLOADS", tmp_path)
    return tmp_path


def test_files_are_saved_under_safe_names(uploads: Path) -> None:
    content = bytes(range(256)) * 5000
    with WebSocketClient(upload.app).connect("/upload") as peer:
        for name, data in (("../../film.mp4", content), ("empty", b"")):
            peer.send(name)
            peer.send(data)
            saved = of_type(peer, "saved")
            assert saved["size"] == len(data)
            assert saved["sha256"] == hashlib.sha256(data).hexdigest()
    assert {path.name: path.read_bytes() for path in uploads.iterdir()} == {
        "film.mp4": content,
        "empty": b"",
    }


def test_nothing_is_left_of_an_upload_that_breaks_off(uploads: Path) -> None:
    with WebSocketClient(upload.app).connect("/upload") as peer:
        peer.send("film.mp4")
        peer.send_bytes(b"\x02\xfe\x40\x00" + bytes(4) + b"x" * 100)  # of 16384
        wait_until(lambda: any(uploads.iterdir()))
        peer.reset()
        wait_until(lambda: not any(uploads.iterdir()))


@in_a_browser
def test_the_page_of_the_upload(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    monkeypatch.setenv("UPLOADS", str(uploads))
    files = [tmp_path / "film.mp4", tmp_path / "empty.txt"]
    files[0].write_bytes(b"0123456789" * 300_000)
    files[1].touch()
    with gunicorn("examples.upload:app") as server:
        browser.open(server.url("/", "http"))
        browser.wait_for("state", "connected")
        choose = browser.driver.find_element(By.ID, "choose")
        choose.send_keys("\n".join(map(str, files)))
        browser.wait_for("files", "3,000,000 bytes saved")
        browser.wait_for("files", hashlib.sha256().hexdigest())
    assert {path.name: path.read_bytes() for path in uploads.iterdir()} == {
        path.name: path.read_bytes() for path in files
    }


# -- Dashboard


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("DATABASE", f"sqlite:///{tmp_path}/dashboard.sqlite3")
    config = ["--config=python:examples.dashboard", "--bind=127.0.0.1:0", *NO_CONTROL_SOCKET]
    listening = r"Listening at: http://127\.0\.0\.1:(\d+)"
    with Server(["-m", "gunicorn", *config, "examples.dashboard:app"], listening) as server:
        yield server
        server.stop()
        assert "Traceback" not in server.output


def log_in(server: Server, name: str, password: str) -> requests.Session:
    http = requests.Session()
    answer = http.post(
        server.url("/login", "http"),
        {"name": name, "password": password},
        timeout=PATIENCE,
        allow_redirects=False,
    )
    assert answer.status_code == 302
    return http


def enter(server: Server, http: requests.Session, path: str) -> syncws.ClientSession:
    cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    return syncws.connect(server.url(path), headers={"Cookie": cookie})


def test_the_dashboard(dashboard: Server) -> None:
    with pytest.raises(syncws.HandshakeError) as refused:
        syncws.connect(dashboard.url("/ws/general"), redirects=0)
    assert refused.value.status == 302
    with contextlib.ExitStack() as stack:
        ann_http = stack.enter_context(log_in(dashboard, "Ann", "secret"))
        bob_http = stack.enter_context(log_in(dashboard, "Bob", "mystery"))
        wrong = requests.post(
            dashboard.url("/login", "http"), {"name": "Ann", "password": "?"}, timeout=PATIENCE
        )
        assert wrong.status_code == 401
        ann = stack.enter_context(enter(dashboard, ann_http, "/ws/general"))
        assert of_type(ann, "lines")["lines"] == []
        assert of_type(ann, "here")["members"] == ["Ann"]
        bob = stack.enter_context(enter(dashboard, bob_http, "/ws/general"))
        while of_type(ann, "here")["members"] != ["Ann", "Bob"]:
            pass  # her own arrival may be told first
        bob.send("<b>all quiet</b>")
        said = of_type(ann, "say")
        assert (said["name"], said["text"]) == ("Bob", "<b>all quiet</b>")
        while of_type(ann, "figures")["sessions"] != 2:
            pass  # counted before he came
        # What was said is in the database, and what was missed comes from the history.
        with enter(dashboard, bob_http, "/ws/general") as another:
            lines = of_type(another, "lines")["lines"]
            assert [(line["name"], line["text"]) for line in lines] == [("Bob", "<b>all quiet</b>")]
        with enter(dashboard, bob_http, "/ws/incidents") as elsewhere:
            assert of_type(elsewhere, "lines")["lines"] == []
        with enter(dashboard, bob_http, "/ws/kitchen") as nowhere:
            assert nowhere.wait_closed(PATIENCE).code == 4404
        bob_http.post(dashboard.url("/logout", "http"), timeout=PATIENCE)
        assert bob.wait_closed(PATIENCE).code == 3000
        ann.send("still here")
        assert of_type(ann, "say")["text"] == "still here"


@in_a_browser
def test_the_page_of_the_dashboard(browser: Browser, dashboard: Server) -> None:
    def fill(element: str, *keys: str) -> None:
        browser.driver.find_element(By.ID, element).send_keys(*keys)

    browser.open(dashboard.url("/incidents", "http"))
    fill("name", "Ann")
    fill("password", "secret", Keys.ENTER)
    browser.wait_for("state", "connected")
    browser.wait_for("members", "Ann")
    browser.type("<i>all</i> quiet")
    browser.wait_for("log", "<i>all</i> quiet")
    browser.wait_for("sessions", "1")
    # Another page of hers logs out: this one goes back to the login.
    cookies = {each["name"]: each["value"] for each in browser.driver.get_cookies()}
    requests.post(dashboard.url("/logout", "http"), cookies=cookies, timeout=PATIENCE)
    wait_until(lambda: browser.driver.current_url.endswith("/login"))


# -- Programs that are clients


def test_the_bot_answers_in_the_chat() -> None:
    with gunicorn("examples.chat:app") as server, syncws.connect(server.url("/chat")) as ann:
        ann.send("Ann")
        of_type(ann, "here")
        arguments = ["-c", "print('port 0'); from examples import bot; bot.main(%r)"]
        arguments[1] %= server.url("/chat")
        with Server(arguments, r"port (\d)"):
            assert of_type(ann, "say")["text"].startswith("Hello.")
            for asked, answer in (
                ("!roll 2d1", r"1 \+ 1 = 2"),
                ("!roll 2d0", "Write !roll 2d6, for example."),
                ("!time", r"It is \d\d:\d\d:\d\d\."),
                ("!remind soon", "Write !remind 10 tea, for example."),
                ("!help", "I know .*"),
                ("nothing", None),
                ("!remind 0 tea", r"Ann: tea|In 0 s\."),
            ):
                ann.send(asked)
                assert of_type(ann, "say")["name"] == "Ann"
                if answer is not None:
                    said = of_type(ann, "say")
                    assert said["name"] == "bot"
                    assert re.fullmatch(answer, said["text"])
            assert {of_type(ann, "say")["text"], said["text"]} == {"Ann: tea", "In 0 s."}


def test_the_load_generator(capsys: pytest.CaptureFixture[str]) -> None:
    with syncws.serve(echo.app, "127.0.0.1") as server:
        url = f"ws://127.0.0.1:{server.port}/echo"
        assert load.main([url, "--sessions=3", "--seconds=0.3"]) == 0
        output = capsys.readouterr().out
        assert re.search(r"^[\d,]+ messages a second, 3 sessions$", output, re.MULTILINE)
        assert re.search(r"^latency: [\d.]+ ms median, [\d.]+ ms in 99 %", output, re.MULTILINE)
        assert load.main([url + "/missing", "--sessions=3"]) == 1
        assert "failed: HandshakeError" in capsys.readouterr().out
