"""The Django application ``syncws.django``, for ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_guards, check_runserver, check_syncws_setting

__all__ = ["SyncwsConfig"]


class SyncwsConfig(AppConfig):
    """Registers the system checks; Django finds the command ``runserver`` by itself."""

    name = "syncws.django"
    label = "syncws"

    def ready(self) -> None:
        checks.register(check_syncws_setting)
        checks.register(check_guards, checks.Tags.urls)
        checks.register(check_runserver)
