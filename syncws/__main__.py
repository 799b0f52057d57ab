"""``syncws``, or ``python -m syncws``: the commands, each in a module of its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .cli_connect import add_command as add_connect
from .cli_serve import add_command as add_serve
from .system.interrupts import end_at_once, raise_again
from .version import __version__

#: The exit status of a program that Ctrl-C has ended, as shells have it: 128 + SIGINT.
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Raises ``SystemExit`` with a message, or with the exit status."""
    name = "syncws" if Path(sys.argv[0]).name == "syncws" else "python -m syncws"
    parser = argparse.ArgumentParser(prog=name, description="WebSockets for synchronous Python.")
    parser.add_argument("--version", action="version", version=f"syncws {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    add_serve(commands)
    add_connect(commands)
    chosen: Any = parser.parse_args(arguments)
    try:
        raise_again()
        chosen.run(chosen)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        end_at_once()


if __name__ == "__main__":
    main()
