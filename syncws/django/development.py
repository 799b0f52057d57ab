"""What ``manage.py runserver`` serves with: ``serve()``, with the interface of Django's server."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from time import localtime, strftime
from typing import TYPE_CHECKING, Any

from django.db import connections

from ..server.listening import listen, stop_listening
from ..server.server import Server
from ..upgrade.respond import carry_out_upgrades

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from ..server.connection import ServerConnection

__all__ = ["DevelopmentServer", "show_log"]

#: How many connections may be open at once: a developer's browsers, and some more.
MAX_CONNECTIONS = 1000


class DevelopmentServer:
    """Takes the place of ``django.core.servers.basehttp.WSGIServer`` in ``runserver``."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler_class: Any, *, ipv6: bool = False) -> None:
        host, port = address
        if ipv6 and ":" not in host:
            found = socket.getaddrinfo(host, port, socket.AF_INET6, socket.SOCK_STREAM)
            host = str(found[0][4][0])
        self._listener = listen(host, port)
        self.server_port: int = self._listener.getsockname()[1]
        self._application: WSGIApplication | None = None

    def set_app(self, application: WSGIApplication) -> None:
        """Set the application that ``serve_forever()`` serves."""
        self._application = application

    def serve_forever(self) -> None:
        """Serve until Ctrl-C or SIGTERM: sessions get a Close with 1001.

        With autoreload this runs in a daemon thread, and the sessions get their Close when
        the process exits.
        """
        assert self._application is not None, "set_app() comes first"
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            server = _Server(
                carry_out_upgrades(self._application), self._listener, None, MAX_CONNECTIONS
            )
        except BaseException:
            stop_listening(self._listener)
            raise
        server.serve_forever()


class _Server(Server):
    """Closes the database connections of a thread when the thread ends."""

    def _remove(self, connection: ServerConnection) -> None:
        if threading.current_thread() is connection:
            connections.close_all()
        super()._remove(connection)


def show_log() -> None:
    """Show each request as Django's ``runserver`` does, and syncws's messages from INFO on.

    Loggers that the project's ``LOGGING`` configures stay as they are.
    """
    access_logger = logging.getLogger("syncws.access")
    if not access_logger.handlers:
        access_logger.addHandler(_ToDjango())
        access_logger.setLevel(logging.INFO)
        access_logger.propagate = False
    logger = logging.getLogger("syncws")
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)


class _ToDjango(logging.Handler):
    """Passes ``serve()``'s access log on to the logger ``django.server``, in its format."""

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple), record
        _, method, target, protocol, status, sent, _ = record.args
        assert isinstance(status, int), record
        level = logging.INFO if status < 400 else logging.WARNING
        logging.getLogger("django.server").log(
            level if status < 500 else logging.ERROR,
            '"%s %s %s" %s %s',
            method,
            target,
            protocol,
            status,
            sent,
            extra={
                "request": None,
                "server_time": strftime("%d/%b/%Y %H:%M:%S", localtime(record.created)),
                "status_code": status,
            },
        )
