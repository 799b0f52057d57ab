"""What ``manage.py check`` finds: guards that come too late, invalid settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands
from django.urls import get_resolver

from .configuration import check_setting
from .guards import late_guards
from .views import HANDLER

__all__ = ["check_guards", "check_runserver", "check_syncws_setting"]


def check_syncws_setting(**_: Any) -> list[CheckMessage]:
    """Check the setting ``SYNCWS``."""
    try:
        check_setting()
    except ImproperlyConfigured as exc:
        return [Error(str(exc), id="syncws.E001")]
    return []


def check_guards(**_: Any) -> list[CheckMessage]:
    """Look for Django's decorators on handlers, below ``@websocket``."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found: dict[Any, CheckMessage] = {}
    for view in _views(get_resolver().url_patterns):
        handler = getattr(view, HANDLER, None)
        for guard in late_guards(handler):
            found[handler] = Error(
                f"A decorator of {guard} is below @websocket: it runs after the WebSocket has "
                "opened, too late to refuse it.",
                hint="Write the decorator above @websocket.",
                obj=f"The view {_name(handler)}",
                id="syncws.E002",
            )
    return list(found.values())


def check_runserver(**_: Any) -> list[CheckMessage]:
    """Look whether another application's ``runserver`` hides the one for WebSockets."""
    other = get_commands().get("runserver")
    if other == "syncws.django":
        return []
    return [
        Warning(
            f"manage.py runserver is {other}'s, which serves no WebSockets.",
            hint=f'Write "syncws.django" above "{other}" in INSTALLED_APPS.',
            id="syncws.W003",
        )
    ]


def _views(patterns: list[Any]) -> Iterator[Callable[..., Any]]:
    """Every view of the URL patterns, those of included ones too."""
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _views(pattern.url_patterns)
        else:
            yield pattern.callback


def _name(handler: Any) -> str:
    kind = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{kind.__module__}.{kind.__qualname__}"
