"""The fixtures, what pytest is told of handlers, and the page on testing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def run_pytest(pytester: pytest.Pytester, body: str) -> pytest.RunResult:
    pytester.makepyfile(
        f"""
        import threading
        import pytest
        import syncws
        from syncws.testing import WebSocketClient

        @syncws.websocket(close_timeout=0.1)
        def echo(session):
            for message in session:
                if message == "fail":
                    raise ZeroDivisionError
                session.send(message)

        {body}
        """
    )
    return pytester.runpytest_inprocess("-p", "no:cacheprovider")


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    result = run_pytest(
        pytester,
        """
        def test_echo(websocket_client, websocket_clock):
            peer = websocket_client(echo).connect("/")
            websocket_clock.advance(20)
            peer.receive_ping()
            peer.send("hi")
            assert peer.receive() == "hi"
        """,
    )
    result.assert_outcomes(passed=1)


def test_the_fixture_raises_what_handlers_raised(pytester: pytest.Pytester) -> None:
    result = run_pytest(
        pytester,
        """
        def test_echo(websocket_client):
            websocket_client(echo).connect("/").send("fail")
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_a_handler_left_running_fails_its_test(pytester: pytest.Pytester) -> None:
    result = run_pytest(
        pytester,
        """
        def test_echo():
            global peer
            peer = WebSocketClient(echo).connect("/left")
            peer.send("hi")
            assert peer.receive() == "hi"
        def test_nothing_of_it_is_left():
            assert not [each for each in threading.enumerate() if "/left" in each.name]
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*still running*", "*the handler echo() of '/left' is here*"])


def test_the_documentation_is_true(pytester: pytest.Pytester) -> None:
    text = (Path(__file__).parents[2] / "docs" / "howto" / "testing.md").read_text()
    pytester.makeconftest(
        """
        import flask
        import pytest
        from syncws.flask import WebSockets

        @pytest.fixture
        def flask_app():
            app = flask.Flask("documented")
            app.secret_key = "the tests'"
            @app.post("/login")
            def login():
                flask.session["user"] = flask.request.form["name"]
                return ""
            @WebSockets(app).route("/whoami")
            def whoami(session):
                session.send(flask.session["user"])
            return app
        """
    )
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    pytester.makepyfile("\n\n".join(blocks))
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=sum(block.count("def test_") for block in blocks))
