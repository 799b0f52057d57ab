"""``manage.py runserver`` on ``serve()``: Django's own command with another server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.management import CommandError

from ...development import DevelopmentServer, show_log

__all__ = ["Command"]

# What runserver does with static files is their application's command.
if TYPE_CHECKING or not apps.is_installed("django.contrib.staticfiles"):
    from django.core.management.commands.runserver import Command as RunserverCommand
else:
    from django.contrib.staticfiles.management.commands.runserver import (
        Command as RunserverCommand,
    )


class Command(RunserverCommand):
    """Autoreload, static files, IPv6, checks and the banner are Django's."""

    help = "Starts a lightweight web server for development, which serves WebSockets too."

    server_cls: Any = DevelopmentServer

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve until Ctrl-C. Raises ``CommandError`` for arguments that are not possible."""
        if not options["use_threading"]:
            raise CommandError(
                "--nothreading is not possible: a WebSocket holds a thread as long as it is open"
            )
        show_log()
        super().handle(*args, **options)
