"""The setting ``SYNCWS``: the options of all views, and the hub.

The setting is read when it is used, never at import, so that tests can override it.
"""

from __future__ import annotations

import threading
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from ..hub.hub import Hub
from ..options import Options

__all__ = ["check_setting", "hub", "view_options"]

_NAMES = ("OPTIONS", "HUB")

# Guards _hub.
_lock = threading.Lock()
_hub: Hub | None = None


def view_options() -> dict[str, Any]:
    """Return ``SYNCWS["OPTIONS"]``: the options of all views, which a view's own override.

    Raises ``ImproperlyConfigured`` if they are invalid.
    """
    options = _part("OPTIONS")
    try:
        Options(**options)
    except (TypeError, ValueError) as exc:
        raise ImproperlyConfigured(f'SYNCWS["OPTIONS"]: {exc}') from exc
    return options


def hub() -> Hub:
    """Return the hub of ``SYNCWS["HUB"]``, whose items are the arguments of
    :class:`syncws.Hub`::

        SYNCWS = {"HUB": {"url": "redis://localhost:6379/0"}}

    Without the setting, the hub has the members of this process. Every call returns the same
    hub. Raises ``ImproperlyConfigured`` if the setting is invalid. Any thread may call it.
    """
    global _hub
    with _lock:
        if _hub is None:
            try:
                _hub = Hub(**_part("HUB"))
            except (TypeError, ValueError, ImportError) as exc:
                raise ImproperlyConfigured(f'SYNCWS["HUB"]: {exc}') from exc
        return _hub


def check_setting() -> None:
    """Raise ``ImproperlyConfigured`` if the setting ``SYNCWS`` is invalid."""
    view_options()
    hub()


def _part(name: str) -> dict[str, Any]:
    setting: Any = getattr(settings, "SYNCWS", {})
    if not isinstance(setting, dict) or set(setting) - set(_NAMES):
        raise ImproperlyConfigured(
            'SYNCWS is a dict with the keys "OPTIONS" and "HUB", such as '
            f'{{"OPTIONS": {{"ping_interval": 20}}}}, not {setting!r}'
        )
    part: Any = setting.get(name, {})
    if not isinstance(part, dict):
        raise ImproperlyConfigured(f'SYNCWS["{name}"] is a dict, not {part!r}')
    return part


def _forget_hub(*, setting: str, **_: Any) -> None:
    """A test has overridden the setting: the next call of ``hub()`` makes a new hub."""
    global _hub
    if setting == "SYNCWS":
        with _lock:
            old, _hub = _hub, None
        if old is not None:
            old.close()


setting_changed.connect(_forget_hub)
