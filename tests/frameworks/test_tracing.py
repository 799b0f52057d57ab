"""What OpenTelemetry and Sentry report of a session: a session of hours is no request of hours."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ..support.servers import ROOT

pytestmark = pytest.mark.load  # a process each, which imports much


def reports(tool: str, kind: str) -> tuple[list[Any], list[Any]]:
    """What was reported while a session was open, and in all: a page, and two sessions. The
    handler of the second one raises."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.traced_app", tool, kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    return result["while_open"], result["in_all"]


@pytest.mark.parametrize("kind", ["django", "wsgi"])
def test_the_opening_is_a_span_of_opentelemetry(kind: str) -> None:
    """It has ended before the session has."""
    while_open, in_all = reports("opentelemetry", kind)
    assert while_open == [["span", 200], ["span", 101]]
    assert in_all == [["span", 200], ["span", 101], ["span", 101]]


def test_opentelemetry_leaves_out_the_routes_of_flask_that_it_is_told() -> None:
    """The context of the request is the handler's, and Flask's instrumentation ends with it."""
    assert reports("opentelemetry", "flask")[1] == [["span", 200]]


def test_sentry_with_flask() -> None:
    """A sampler leaves sessions out. An error of a handler is reported, once."""
    while_open, in_all = reports("sentry", "flask")
    assert while_open == [["transaction"]]
    assert in_all == [["transaction"], ["event", "LookupError"]]


def test_sentry_with_django() -> None:
    while_open, in_all = reports("sentry", "django")
    assert while_open == [["transaction"]]
    assert in_all == [["transaction"], ["event", "LookupError"]]
