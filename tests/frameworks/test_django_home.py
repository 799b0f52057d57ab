"""Django's settings, system checks and tests with ``syncws.django`` in ``INSTALLED_APPS``."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator
from typing import Any

import django.test
import pytest
from django.contrib.auth.decorators import login_required
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import get_commands
from django.db import connection, models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.test import override_settings
from django.urls import include, path
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET

import examples.django_echo  # noqa: F401  # configures Django
from syncws import ConnectionClosedError, HandshakeError, Session
from syncws.django import hub, websocket
from syncws.django.checks import check_runserver
from syncws.testing import WebSocketClient

from ..support.pairs import PATIENCE


class Thing(models.Model):
    """Something in the database."""

    class Meta:
        app_label = "tests"


@websocket  # type: ignore[type-var]  # a handler is no view, which is the point
@login_required
def too_late(request: HttpRequest, session: Session) -> None:
    session.send("secret")


@login_required
@websocket
@sensitive_variables()  # no guard: it belongs on the handler
def in_time(request: HttpRequest, session: Session) -> None:
    session.send("secret")


@websocket
def echo(request: HttpRequest, session: Session) -> None:
    for message in session:
        session.send(message)


@websocket(max_message_size=100)
def with_an_option(request: HttpRequest, session: Session) -> None:
    session.receive()


@websocket
def redirects(request: HttpRequest, session: Session) -> Any:
    return redirect("/log-in/")


@websocket
def not_found(request: HttpRequest, session: Session) -> None:
    raise Http404


@websocket
def forbidden(request: HttpRequest, session: Session) -> None:
    raise PermissionDenied


@websocket
def breaks(request: HttpRequest, session: Session) -> Any:
    return HttpResponse(status=500)


@require_GET
def fails(request: HttpRequest) -> HttpResponse:
    raise LookupError("before the WebSocket")


@websocket
def counts(request: HttpRequest, session: Session) -> None:
    for _ in session:
        Thing.objects.create()
        session.send(str(Thing.objects.count()))


views = [too_late, in_time, echo, with_an_option, redirects, not_found, forbidden, breaks, counts]
included = [path(f"{view.__name__}/", view) for view in views]


class Guarded:
    urlpatterns = (path("", include(included)), path("fails/", fails))


class Unguarded:
    urlpatterns = included[1:]


def forget_commands() -> None:
    """Django finds its commands once."""
    get_commands.cache_clear()  # type: ignore[attr-defined]  # its stubs do not know the cache


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(
        ROOT_URLCONF=Guarded,
        INSTALLED_APPS=[
            "syncws.django",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
        ],
        MIDDLEWARE=[],
        STATIC_URL="/static/",
    ):
        forget_commands()
        yield
    forget_commands()


def found() -> list[str | None]:
    return [message.id for message in run_checks()]


# Guards


def test_f13_a_check_finds_a_guard_below_the_decorator() -> None:
    (message,) = run_checks()
    assert message.id == "syncws.E002"
    assert "django.contrib.auth.decorators is below @websocket" in message.msg
    assert "above @websocket" in (message.hint or "")
    assert message.obj == f"The view {__name__}.too_late"
    with override_settings(ROOT_URLCONF=Unguarded):
        assert found() == []


@pytest.mark.parametrize(
    ("name", "code", "status"),
    [
        ("redirects", 1008, 302),
        ("not_found", 1008, 404),
        ("forbidden", 1008, 403),
        ("breaks", 1011, 500),
    ],
)
def test_f13_an_answer_that_comes_too_late_closes_the_session(
    caplog: pytest.LogCaptureFixture, name: str, code: int, status: int
) -> None:
    with WebSocketClient(WSGIHandler()).connect(f"/{name}/") as peer:
        with pytest.raises(ConnectionClosedError):
            peer.receive()
        assert peer.wait_closed().code == code
    (message,) = caplog.messages
    assert f"the status {status}, which is too late" in message
    assert "above @websocket" in message


# Settings


def test_f13_the_setting_has_options_that_a_view_overrides() -> None:
    client = WebSocketClient(WSGIHandler())
    for name, code in (("echo", 1009), ("with_an_option", 1000)):
        with (
            override_settings(SYNCWS={"OPTIONS": {"max_message_size": 10}}),
            client.connect(f"/{name}/") as peer,
        ):
            peer.send("x" * 50)
            if code == 1000:
                peer.close()
            assert peer.wait_closed().code == code


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"OPTIONS": {"ping_intervall": 5}}, r'SYNCWS\["OPTIONS"\].*ping_intervall'),
        ({"OPTIONS": {"timeout": -1}}, r'SYNCWS\["OPTIONS"\]: timeout'),
        ({"OPTIONS": 5}, r'SYNCWS\["OPTIONS"\] is a dict, not 5'),
        ({"HUB": {"no_such": 1}}, r'SYNCWS\["HUB"\].*no_such'),
        ({"ping_interval": 5}, 'the keys "OPTIONS" and "HUB"'),
        ([], 'the keys "OPTIONS" and "HUB"'),
    ],
)
def test_f13_a_check_finds_what_is_wrong_in_the_setting(setting: Any, match: str) -> None:
    with override_settings(SYNCWS=setting, ROOT_URLCONF=Unguarded):
        (message,) = run_checks()
        assert message.id == "syncws.E001"
        use = hub if "HUB" in setting else WebSocketClient(WSGIHandler()).connect
        with pytest.raises(ImproperlyConfigured, match=match) as raised:
            use(*["/echo/"][: use is not hub])
        assert message.msg == str(raised.value)


def test_f13_the_setting_has_the_hub() -> None:
    with override_settings(SYNCWS={"HUB": {"queue": 1}}):
        made = hub()
        assert made is hub()
    with override_settings(SYNCWS={}):
        assert made is not hub()


def test_f13_another_runserver_in_front_is_found() -> None:
    with override_settings(
        ROOT_URLCONF=Unguarded, INSTALLED_APPS=["django.contrib.staticfiles", "syncws.django"]
    ):
        forget_commands()
        (message,) = check_runserver()
    assert message.id == "syncws.W003"
    assert message.hint == (
        'Write "syncws.django" above "django.contrib.staticfiles" in INSTALLED_APPS.'
    )


# Tests


@pytest.mark.parametrize(
    ("cookies", "options", "host"),
    [
        (django.test.Client, {}, "testserver"),
        (None, {}, "testserver"),
        (lambda: django.test.Client(SERVER_NAME="example.com"), {}, "example.com"),
        (lambda: django.test.Client(HTTP_HOST="example.com:81"), {}, "example.com:81"),
        (django.test.Client, {"host": "localhost"}, "localhost"),
    ],
)
def test_f13_the_host_is_that_of_djangos_client(
    cookies: Callable[[], Any] | None, options: dict[str, Any], host: str
) -> None:
    given = None if cookies is None else cookies()
    with (
        override_settings(ALLOWED_HOSTS=[host.partition(":")[0]]),
        WebSocketClient(WSGIHandler(), cookies=given, **options).connect("/echo/") as peer,
    ):
        assert peer.session.environ["HTTP_HOST"] == host


def test_f13_what_a_view_raises_is_raised_in_the_test() -> None:
    with pytest.raises(LookupError, match="before the WebSocket"):
        WebSocketClient(WSGIHandler()).connect("/fails/")
    with pytest.raises(HandshakeError) as caught:
        WebSocketClient(WSGIHandler(), raise_exceptions=False).connect("/fails/")
    assert caught.value.status == 500


@pytest.mark.parametrize("kind", [django.test.TestCase, django.test.TransactionTestCase])
def test_f13_handlers_see_what_the_test_has_in_the_database(
    kind: type[django.test.TransactionTestCase],
) -> None:
    class Test(kind):  # type: ignore[misc,valid-type]  # either of Django's
        available_apps = ("syncws.django",)  # which have no tables to empty

        def test_it(self) -> None:
            Thing.objects.create()
            with WebSocketClient(WSGIHandler()).connect("/counts/") as peer:
                peer.send("count")
                assert peer.receive(PATIENCE) == "2"
            assert Thing.objects.count() == 2

    with connection.schema_editor() as editor:
        editor.create_model(Thing)
    try:
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(Test).run(result)
        assert result.testsRun == 1
        assert not result.errors, result.errors[0][1]
        assert not result.failures, result.failures[0][1]
        expected = 0 if kind is django.test.TestCase else 2
        assert Thing.objects.count() == expected
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Thing)
        connection.close()
