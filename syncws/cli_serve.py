"""``python -m syncws serve module:app``: a server for development."""

from __future__ import annotations

import importlib
import logging
import operator
import signal
import sys
from typing import TYPE_CHECKING, Any

from .server.server import Server, serve

if TYPE_CHECKING:
    import argparse

__all__ = ["add_command"]

#: Seconds that handlers get after the code has changed: the developer waits for the reload.
RELOAD_TIMEOUT = 2.0


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of ``python -m syncws``."""
    parser = commands.add_parser(
        "serve",
        help="serve a WSGI application or a handler, for development",
        description="Serve a WSGI application, or a bare WebSocket handler, for development. "
        "Ctrl-C, or SIGTERM, ends it: sessions get a Close with 1001.",
    )
    parser.add_argument("target", metavar="module:app", help="where the application is")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on, or unix:/path (127.0.0.1)"
    )
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (8000)")
    parser.add_argument(
        "--reload",
        action="store_true",
        help="start again when a Python file changes; wants Werkzeug, which Flask brings",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.reload:
        _run_with_reloader(arguments)
    else:
        # Process managers and containers send SIGTERM: it does what Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _start(arguments).serve_forever()


def _run_with_reloader(arguments: argparse.Namespace) -> None:
    try:
        # Private in Werkzeug, which offers the reloader only together with its own server.
        from werkzeug._reloader import run_with_reloader
    except ImportError:
        raise SystemExit(
            "--reload wants Werkzeug, which is not installed: pip install werkzeug"
        ) from None
    started: list[Server] = []

    def start() -> None:
        try:
            started.append(_start(arguments))
        except SystemExit as exc:  # this would end the thread silently
            print(exc, file=sys.stderr)

    # The reloader raises SystemExit when a file has changed. If the server could not start,
    # it waits for the next change.
    try:
        run_with_reloader(start)
    finally:
        for server in started:
            server.shutdown(RELOAD_TIMEOUT)


def _start(arguments: argparse.Namespace) -> Server:
    try:
        server = serve(_load(arguments.target), arguments.host, arguments.port)
    except (OSError, TypeError, ValueError) as exc:
        raise SystemExit(f"{arguments.target} can not be served: {exc}") from exc
    address = arguments.host
    if server.port:
        host = f"[{address}]" if ":" in address else address
        address = f"http://{host}:{server.port}/"
    print(f"Serving {arguments.target} on {address} (Ctrl-C ends it)", flush=True)
    return server


def _load(target: str) -> Any:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise SystemExit(f"{target!r} is not of the form module:app, such as examples.echo:app")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise  # the module is there, but a module that it imports is not
        raise SystemExit(
            f"there is no module {module_name!r} here: write it with dots and without .py, "
            "and run this in the folder that it is in"
        ) from None
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        raise SystemExit(f"there is no {name!r} in the module {module_name!r}") from None
